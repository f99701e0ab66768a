"""An instance as units that can be removed: what each one's attribution is, and what the served model answers without some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from service.errors import BadParameter
from service.explain import references, scalar
from service.explain.attribution import Found
from service.explain.case import FORWARD_ROWS, Arrays, Case, Tensors
from service.explain.features import absent
from service.explain.quality.units import Units, units_of, window
from service.explain.scalar import Scalar

Array = NDArray[Any]
REFERENCES = 4
"""Of a reference set, evenly spaced ones that stand for it: each multiplies the rows of every figure."""


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """The units, numbered 0 to U - 1, in which an instance differs from its baseline: only they can be removed, that is, set to
    the baseline. Attributed tensors, or the inputs themselves for methods that attribute to inputs without one."""

    case: Case
    instance: Mapping[str, Array]
    """(1, ..) by input."""
    baseline: Mapping[str, Array]
    """(1, ..), or (A, ..): a few typical instances, or of an input where nothing stands for nothing each other value, in turn; the
    answer is the mean."""
    layouts: Mapping[str, Units]
    numbers: Mapping[str, Array]
    """By input: for each unit of its layout the number here, -1 where there is nothing to remove, or where units that the method
    can't tell apart share one."""
    scores: Array
    """(U,) float64: the attributions of each unit, summed up; of scores the mean."""
    shares: Array | None
    """(U,) float64: what each unit should change F by, going by the attributions; None where they don't say."""
    probability: Scalar | None
    """The target's probability, where the output is a class."""
    at_inputs: bool
    """Whether `instance` and `baseline` are inputs of the graph, or else the attributed tensors."""

    @property
    def count(self) -> int:
        return len(self.scores)

    @property
    def noun(self) -> str:
        nouns = dict.fromkeys(units.noun for units in self.layouts.values())
        return next(iter(nouns)) if len(nouns) == 1 else "parts"

    def answers(self, kept: Array) -> Array:
        """What the served model answers where the units that `kept` (N, U), bool, leaves out are at the baseline: F and the
        target's probability (NaN where there is none), (N, 2) float64."""
        a_row = sum(array.nbytes for array in self.instance.values())
        rows = max(1, min(FORWARD_ROWS, self.case.memory // max(1, 2 * a_row)))
        turns = max(len(b) for b in self.baseline.values())
        places = np.arange(len(kept) * turns)
        answers = [self._answers(kept[p // turns], p % turns) for i in places[::rows] for p in [places[i : i + rows]]]
        averaged: Array = np.concatenate(answers).reshape(len(kept), turns, 2).mean(1)
        return averaged

    def _answers(self, kept: Array, turns: Array) -> Array:
        """`turns` (N,): which of the baselines stands in each row."""
        mixed = {name: self._mixed(name, kept, turns) for name in self.instance}
        if self.at_inputs:
            return self.case.served_inputs(mixed, self._read)
        return self.case.served(tuple(torch.from_numpy(mixed[name]) for name in self.case.subject.at), self._read)

    def _mixed(self, name: str, kept: Array, turns: Array) -> Array:
        """(N, ..): the instance's elements where kept, the baseline's elsewhere."""
        numbers = self.numbers[name][self.layouts[name].labels]  # the input's own shape
        stays = np.concatenate([kept, np.ones((len(kept), 1), bool)], 1)[:, numbers]  # -1 is the last: always kept
        x, b = self.instance[name], self.baseline[name]
        stays = stays.reshape(*stays.shape, *(1,) * (x.ndim - stays.ndim))
        return np.where(stays, x, b[turns % len(b)])

    def _read(self, ran: Arrays) -> Array:
        f = self.case.f(ran).astype(np.float64)
        if self.probability is None:
            return np.stack([f, np.full_like(f, np.nan)], 1)
        return np.stack([f, self.probability.of_array(ran[self.probability.tensor]).astype(np.float64)], 1)

    def removal(self, rng: np.random.Generator) -> Array:
        """A random removal: units (U,), bool, that lie together around one of them, taken from one input."""
        centre = int(rng.integers(self.count))
        name = next(n for n, numbers in self.numbers.items() if (numbers == centre).any())
        numbers = self.numbers[name]
        places = np.flatnonzero(numbers == centre)
        inside = window(self.layouts[name], int(places[rng.integers(len(places))]), rng)
        removed = np.zeros(self.count, bool)
        removed[numbers[inside & (numbers >= 0)]] = True
        return removed


def ground_of(case: Case, found: Found) -> Ground:
    """The ground on which a method's answer is judged. Raises what the case's baseline raises."""
    instance, baseline, at_inputs = _ends(case, found)
    entries = {entry.name: entry for entry in case.subject.manifest.inputs}
    layouts = {name: units_of(entries[name], case.feeds[name].shape[1:]) for name in instance}
    measures = case.request.method.measures(case.request.parameters)
    merges = case.request.method.family in ("perturbation", "region")
    numbers, scores, shares, first = {}, [], [], 0
    for name, layout in layouts.items():
        attributions = found.attributions[name].astype(np.float64)
        summed = _by_unit(attributions, layout)
        removable = _by_unit(_differs(instance[name], baseline[name], attributions.ndim), layout) > 0
        numbered = _numbered(summed, removable, first, merges=merges)
        count = int(numbered.max(initial=first - 1)) + 1 - first
        numbers[name] = numbered
        score = _summed(summed, numbered, first, count)
        # A score ranks whatever has it, large or small; shares of many make a larger share.
        scores.append(score / _summed(np.ones_like(summed), numbered, first, count) if measures == "score" else score)
        expected = _expected(case, attributions, instance[name], baseline[name])
        shares.append(None if expected is None else _summed(_by_unit(expected, layout), numbered, first, count))
        first += count
    known = [s for s in shares if s is not None]
    together = np.concatenate(known) if len(known) == len(shares) else None
    return Ground(case, instance, baseline, layouts, numbers, np.concatenate(scores), together, _probability(case), at_inputs)


def _ends(case: Case, found: Found) -> tuple[Arrays, Arrays, bool]:
    """The instance (1, ..) and its baseline (A, ..), by input, and whether they are inputs: as the method itself took them."""
    if "reference" in case.request.method.needs:
        typical = references.of(case).points
        some = np.unique(np.linspace(0, len(typical[0]) - 1, REFERENCES).round().astype(int))
        return _by_input(case, case.point), _by_input(case, tuple(t[some] for t in typical)), False
    if not case.request.method.needs_twin:
        chosen = absent.choose(case)
        rows = {name: chosen[name].rows for name in found.attributions}
        known = {name: array for name, array in rows.items() if array is not None}
        if len(known) == len(rows) or not rows.keys() <= case.subject.at.keys():
            # What has a baseline behind the cut only, while others have theirs before it, stays as it is.
            return {name: case.feeds[name] for name in known}, known, True
    return _by_input(case, case.point), _by_input(case, case.baseline.point), False


def _by_input(case: Case, tensors: Tensors) -> Arrays:
    return {name: tensor.numpy() for name, tensor in zip(case.subject.at, tensors, strict=True)}


def _by_unit(elements: Array, layout: Units) -> Array:
    """Elements in the input's own shape, summed over each unit: (units,) float64."""
    summed: Array = np.bincount(layout.labels.reshape(-1), elements.reshape(-1), layout.count)
    return summed


def _differs(x: Array, b: Array, rank: int) -> Array:
    """Whether each element of the input, an axis for each of `rank`, differs from the baseline in any of what it stands for."""
    other = ((x != b) & ~(_missing(x) & _missing(b))).any(0)
    differs: Array = other.reshape(*x.shape[1 : rank + 1], -1).any(-1)
    return differs


def _missing(array: Array) -> Array:
    return np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, bool)


def _numbered(summed: Array, removable: Array, first: int, *, merges: bool) -> Array:
    """Numbers from `first` for the removable units, -1 for the others. With `merges`, units of exactly the same attribution, as
    those of one superpixel have, share a number: their method treats them as one."""
    numbers = np.full(len(summed), -1)
    if merges:
        numbers[removable] = first + np.unique(summed[removable], return_inverse=True)[1]
    else:
        numbers[removable] = first + np.arange(removable.sum())
    return numbers


def _summed(values: Array, numbered: Array, first: int, count: int) -> Array:
    inside = numbered >= 0
    summed: Array = np.bincount(numbered[inside] - first, values[inside], count)
    return summed


def _expected(case: Case, attributions: Array, x: Array, b: Array) -> Array | None:
    """What the removal of each element should change F by: its share, or its slope times its distance from the baseline. None
    for magnitudes, and for slopes that were summed over what a token's tensor has beyond the token."""
    if case.request.unsigned:
        return None
    if case.request.method.measures(case.request.parameters) != "slope":
        return attributions
    distance = x[0].astype(np.float64) - b[0] if x.dtype.kind in "fiu" else np.zeros(())
    return attributions * distance if distance.shape == attributions.shape else None


def _probability(case: Case) -> Scalar | None:
    if case.scalar.explained == "probability":
        return case.scalar
    subject = case.subject
    if case.output.kind not in ("classes", "mask"):
        return None
    try:
        return scalar.choose(subject.manifest, case.output, "probability", case.target, case.ran, subject.logits)
    except BadParameter:
        return None

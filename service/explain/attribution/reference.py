"""Gradient SHAP and DeepLIFT SHAP: attributions against many typical instances, averaged."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.explain import references
from service.explain.attribution.found import Found
from service.explain.attribution.hooked import EXPORTED, Hooked
from service.explain.attribution.hooks import COMPLETE, must_be_complete
from service.explain.attribution.problem import Problem, captum_class, expanded, without_noise
from service.explain.attribution.span import spans
from service.explain.cancel import TimeUp
from service.explain.case import Case, Tensors, scale
from service.explain.methods import find
from service.explain.methods.reference import DEFAULT_TOLERANCE, GradientShapParameters
from service.explain.references import References

GOLDEN = (5**0.5 - 1) / 2


def run(case: Case) -> Found:
    compared = references.of(case)
    return _gradient_shap(case, compared) if case.request.method.name == "gradient_shap" else _deep_lift_shap(case, compared)


def _described(compared: References) -> dict[str, Any]:
    return {"baseline": {"reference": compared.count}, "baseline_output": compared.output, "warnings": compared.warnings}


# ----------------------------------------------------------------------------------------------------------- DeepLIFT


def _deep_lift_shap(case: Case, compared: References) -> Found:
    """The mean of DeepLIFT against each reference, so many at a time as fit into a pass, each of which takes two rows."""
    method, problem = case.request.method, Problem.of(case)
    captum = captum_class(find("deep_lift"))(Hooked(case, problem, method))  # Captum's DeepLiftShap refuses a single reference
    at_once = max(1, case.rows // 2)
    sums: list[Tensor] = []
    for start in range(0, compared.count, at_once):
        chunk = tuple(t[start : start + at_once] for t in problem.of_active(compared.points))
        n = len(chunk[0])
        instance = tuple(t.repeat(n, *(1,) * (t.dim() - 1)) for t in problem.of_active(case.point))
        arguments = expanded(problem.arguments, n)
        found = without_noise(functools.partial(captum.attribute, instance, chunk, additional_forward_args=arguments))
        sums = [s + f.detach().double().sum(0) for s, f in zip(sums or [torch.zeros(())] * len(found), found, strict=True)]
    means = tuple((s / compared.count).to(torch.float32) for s in sums)
    chosen = {**EXPORTED, "tolerance": COMPLETE}
    found_all = Found(problem.attributions(means), compared.count, 2 * compared.count, parameters=chosen, **_described(compared))
    must_be_complete(case, found_all)
    return found_all


# ------------------------------------------------------------------------------------------------------ gradient SHAP


@dataclass(frozen=True, slots=True, eq=False)
class _Round:
    """Samples that are taken together."""

    references: NDArray[np.int64]
    """(n,): with whom each is compared."""
    places: NDArray[np.float64]
    """(n,): where between the two its gradient is taken, 0 the reference and 1 the instance."""


def _as_captum(numbers: np.random.RandomState, references: int, n: int) -> Iterator[_Round]:
    """One round of n samples, in the order in which Captum's GradientShap draws them."""
    yield _Round(numbers.choice(references, n), numbers.uniform(0.0, 1.0, n))


def _balanced(numbers: np.random.RandomState, references: int) -> Iterator[_Round]:
    """Rounds that take every reference once, at places spread evenly over the references and, from round to round, over the
    path of each (a rotation by the golden ratio): far fewer samples than independent draws need."""
    first = (numbers.permutation(references) + numbers.uniform()) / references
    for number in itertools.count():
        yield _Round(np.arange(references), (first + number * GOLDEN) % 1.0)


def _gradient_shap(case: Case, compared: References) -> Found:
    parameters = case.request.parameters
    assert isinstance(parameters, GradientShapParameters)  # the table says so
    problem, seed = Problem.of(case), parameters.seed
    point, rows = problem.of_active(case.point), problem.of_active(compared.points)
    deviations = tuple((parameters.noise * s).expand_as(p) for s, p in zip(problem.of_active(spans(case)), point, strict=True))
    numbers, noise = np.random.RandomState(seed % 2**32), torch.Generator().manual_seed(seed)
    fixed = parameters.n_samples
    rounds = _as_captum(numbers, compared.count, fixed) if fixed else _balanced(numbers, compared.count)
    tolerance = None if fixed else parameters.tolerance or DEFAULT_TOLERANCE
    moved = case.instance_output - compared.output
    allowed = (tolerance or 0.0) * scale(case.instance_output, compared.output)
    mean = _Mean(independent=fixed is not None)
    timed_out = False
    try:
        for one in rounds:
            noisy = tuple(_noisy(p.expand(len(one.places), *p.shape[1:]), d, noise) for p, d in zip(point, deviations, strict=True))
            samples = [_chunk(problem, one, rows, noisy, i, case.rows) for i in range(0, len(one.places), case.rows)]
            mean.add(tuple(torch.cat(column) for column in zip(*samples, strict=True)))
            enough = max(mean.standard_error, abs(mean.total - moved)) <= allowed
            if not fixed and (enough or mean.count >= parameters.max_samples):
                break
    except TimeUp:
        if not mean.count:
            raise
        timed_out = True
    error = mean.standard_error
    found: dict[str, Any] = {"n_samples": mean.count, "tolerance": tolerance, "standard_error": None if np.isinf(error) else error}
    attributions = problem.attributions(mean.values)
    return Found(attributions, mean.count, mean.count, timed_out, parameters=found, **_described(compared))


def _noisy(points: Tensor, deviation: Tensor, generator: torch.Generator) -> Tensor:
    return points + torch.normal(0.0, deviation.expand_as(points), generator=generator) if deviation.any() else points


def _chunk(problem: Problem, one: _Round, references: Tensors, noisy: Tensors, start: int, rows: int) -> Tensors:
    """Some samples (n, ..) of a round: as many as go into a pass."""
    part = slice(start, start + rows)
    starts, ends = tuple(r[one.references[part]] for r in references), tuple(t[part] for t in noisy)
    return _samples(problem, starts, ends, torch.from_numpy(one.places[part]))


class _Mean:
    """Of samples as they come, and the standard error of its sum over all elements.

    Where samples aren't `independent` their rounds stand for them: those of a round balance each other.
    """

    def __init__(self, *, independent: bool) -> None:
        self.count = 0
        self._independent = independent
        self._sums: list[Tensor] = []
        self._totals: list[float] = []

    def add(self, samples: Tensors) -> None:
        """A round's: (n, ..) of each active tensor."""
        sums = [s.double().sum(0) for s in samples]
        self._sums = [a + b for a, b in zip(self._sums, sums, strict=True)] if self._sums else sums
        totals = torch.stack([s.double().flatten(1).sum(1) for s in samples]).sum(0)  # (n,)
        self._totals += totals.tolist() if self._independent else [float(totals.mean())]
        self.count += len(totals)

    @property
    def values(self) -> Tensors:
        """Without batch axis."""
        return tuple((s / self.count).float() for s in self._sums)

    @property
    def total(self) -> float:
        return float(np.mean(self._totals))

    @property
    def standard_error(self) -> float:
        if len(self._totals) < 2:
            return float("inf")
        return float(np.std(self._totals, ddof=1) / np.sqrt(len(self._totals)))


def _samples(problem: Problem, starts: Tensors, ends: Tensors, places: Tensor) -> Tensors:
    """(n, ..): the way from start to end times the gradient at a place between them (0 the start, 1 the end)."""
    with torch.enable_grad():
        between = []
        for start, end in zip(starts, ends, strict=True):
            part = places.to(end.dtype).reshape(-1, *(1,) * (end.dim() - 1))
            between.append((part * end + (1 - part) * start).requires_grad_())
        f = problem.reordered(*between, *(expanded(problem.arguments, len(places)) or ()))
        gradients = torch.autograd.grad(f.sum(), between)
    return tuple((end - start) * g for start, end, g in zip(starts, ends, gradients, strict=True))

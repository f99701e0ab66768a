"""Gradient SHAP and DeepLIFT SHAP: attributions against many typical instances, averaged."""

from __future__ import annotations

import functools
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
from service.explain.attribution.problem import Problem, captum_class, expanded, first_rows, without_noise
from service.explain.attribution.span import spans
from service.explain.cancel import TimeUp
from service.explain.case import Case, Tensors, scale
from service.explain.methods.reference import DEFAULT_TOLERANCE, FIRST_SAMPLES, GradientShapParameters
from service.explain.references import References


def run(case: Case) -> Found:
    compared = references.of(case)
    return _gradient_shap(case, compared) if case.request.method.name == "gradient_shap" else _deep_lift_shap(case, compared)


def _described(compared: References) -> dict[str, Any]:
    return {"baseline": {"reference": compared.count}, "baseline_output": compared.output, "warnings": compared.warnings}


# ----------------------------------------------------------------------------------------------------------- DeepLIFT


def _deep_lift_shap(case: Case, compared: References) -> Found:
    """The mean of DeepLIFT against each reference, so many at a time as fit into a pass, each of which takes two rows."""
    method, problem = case.request.method, Problem.of(case)
    captum = captum_class(method)(Hooked(case, problem, method))
    at_once = max(1, case.rows // 2)
    sums: list[Tensor] = []
    for start in range(0, compared.count, at_once):
        chunk = tuple(t[start : start + at_once] for t in problem.of_active(compared.points))
        attribute = functools.partial(captum.attribute, problem.leaves, chunk, additional_forward_args=problem.arguments)
        found = first_rows(without_noise(attribute))
        sums = [s + f.double() * len(chunk[0]) for s, f in zip(sums or [torch.zeros(())] * len(found), found, strict=True)]
    means = tuple((s / compared.count).to(torch.float32) for s in sums)
    chosen = {**EXPORTED, "tolerance": COMPLETE}
    found_all = Found(problem.attributions(means), compared.count, 2 * compared.count, parameters=chosen, **_described(compared))
    must_be_complete(case, found_all)
    return found_all


# ------------------------------------------------------------------------------------------------------ gradient SHAP


@dataclass(frozen=True, slots=True, eq=False)
class _Draws:
    """Samples in the order in which Captum's GradientShap draws them from the generators that one seed sets."""

    numpy: np.random.RandomState
    torch: torch.Generator
    references: int
    deviations: Tensors
    """(1, ..) of each active tensor."""

    def next(self, point: Tensors, n: int) -> tuple[Tensors, NDArray[np.int64], NDArray[np.float64]]:
        """n noisy instances (n, ..), with whom each is compared, and where between the two its gradient is taken."""
        noisy = tuple(_noisy(p.expand(n, *p.shape[1:]), d, self.torch) for p, d in zip(point, self.deviations, strict=True))
        return noisy, self.numpy.choice(self.references, n), self.numpy.uniform(0.0, 1.0, n)


def _noisy(points: Tensor, deviation: Tensor, generator: torch.Generator) -> Tensor:
    return points + torch.normal(0.0, deviation.expand_as(points), generator=generator) if deviation.any() else points


def _gradient_shap(case: Case, compared: References) -> Found:
    parameters = case.request.parameters
    assert isinstance(parameters, GradientShapParameters)  # the table says so
    problem, seed = Problem.of(case), parameters.seed
    point, rows = problem.of_active(case.point), problem.of_active(compared.points)
    deviations = tuple((parameters.noise * s).expand_as(p) for s, p in zip(problem.of_active(spans(case)), point, strict=True))
    draws = _Draws(np.random.RandomState(seed % 2**32), torch.Generator().manual_seed(seed), compared.count, deviations)
    tolerance = None if parameters.n_samples else parameters.tolerance or DEFAULT_TOLERANCE
    allowed = (tolerance or 0.0) * scale(case.instance_output, compared.output)
    moved = case.instance_output - compared.output
    mean = _Mean()
    timed_out = False
    try:
        while mean.count < (parameters.n_samples or parameters.max_samples):
            n = parameters.n_samples or min(FIRST_SAMPLES, parameters.max_samples - mean.count)
            noisy, chosen, places = draws.next(point, n)
            for i in range(0, n, case.rows):
                ends = tuple(t[i : i + case.rows] for t in noisy)
                starts = tuple(r[chosen[i : i + case.rows]] for r in rows)
                mean.add(_samples(problem, starts, ends, torch.from_numpy(places[i : i + case.rows])))
            if tolerance is not None and max(mean.standard_error, abs(mean.total - moved)) <= allowed:
                break
    except TimeUp:
        if mean.count < 2:
            raise
        timed_out = True
    error = mean.standard_error
    found: dict[str, Any] = {"n_samples": mean.count, "tolerance": tolerance, "standard_error": None if np.isinf(error) else error}
    attributions = problem.attributions(mean.values)
    return Found(attributions, mean.count, mean.count, timed_out, parameters=found, **_described(compared))


class _Mean:
    """Of samples as they come, and the standard error of its sum over all elements."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: list[Tensor] = []
        self._totals: list[NDArray[np.float64]] = []

    def add(self, samples: Tensors) -> None:
        """`samples` (n, ..) of each active tensor."""
        sums = [s.double().sum(0) for s in samples]
        self._sums = [a + b for a, b in zip(self._sums, sums, strict=True)] if self._sums else sums
        self._totals.append(sum(s.double().flatten(1).sum(1) for s in samples).numpy())  # type: ignore[union-attr]  # there is one
        self.count += len(samples[0])

    @property
    def values(self) -> Tensors:
        """Without batch axis."""
        return tuple((s / self.count).float() for s in self._sums)

    @property
    def total(self) -> float:
        return float(np.concatenate(self._totals).mean())

    @property
    def standard_error(self) -> float:
        if self.count < 2:
            return float("inf")
        return float(np.concatenate(self._totals).std(ddof=1) / np.sqrt(self.count))


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

"""Gradient SHAP and DeepLIFT SHAP: attributions against many typical instances, averaged."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from service.explain import references
from service.explain.attribution.found import Found
from service.explain.attribution.hooked import EXPORTED, Hooked
from service.explain.attribution.hooks import COMPLETE, must_be_complete
from service.explain.attribution.mean import Mean
from service.explain.attribution.problem import Problem, captum_class, expanded, without_noise
from service.explain.attribution.rounds import Drawn, as_captum, balanced
from service.explain.attribution.span import spans
from service.explain.cancel import TimeUp
from service.explain.case import Case, Tensors, scale
from service.explain.methods import find
from service.explain.methods.reference import DEFAULT_TOLERANCE, GradientShapParameters
from service.explain.references import References

SPREAD = 4
"""Times the tolerance is how far the attributions may be from their expectation, by standard error, relative to their length (L2).
A sum misses less than a vector: the elements' errors cancel in it."""


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


def _gradient_shap(case: Case, compared: References) -> Found:
    """The mean over samples of gradient times way, each at some place between a reference and the instance."""
    parameters = case.request.parameters
    assert isinstance(parameters, GradientShapParameters)  # the table says so
    problem, fixed = Problem.of(case), parameters.n_samples
    numbers = np.random.RandomState(parameters.seed % 2**32)
    samples = _Samples(case, problem, compared, parameters.noise, torch.Generator().manual_seed(parameters.seed))
    mean = Mean(independent=fixed is not None)
    goal = None if fixed else _Goal.of(case, compared, parameters.tolerance or DEFAULT_TOLERANCE)
    timed_out = False
    try:
        for drawn in as_captum(numbers, compared.count, fixed) if fixed else balanced(numbers, compared.count):
            if goal and mean.units > 1 and (goal.reached(mean) or mean.count + len(drawn.places) > parameters.max_samples):
                break
            for start in range(0, len(drawn.places), case.rows):
                mean.add(samples.of(drawn.part(start, start + case.rows)))
            mean.close()
    except TimeUp:
        if not mean.units:
            raise
        timed_out = True
    chosen = {"n_samples": mean.count, "tolerance": goal and goal.tolerance, "standard_error": mean.standard_error}
    return Found(
        problem.attributions(_split(problem, mean.values)),
        mean.count,
        samples.rows,
        timed_out,
        goal is None or goal.reached(mean, but_the_sum=True),
        parameters=chosen,
        fields={"integration_error": mean.spread},
        **{**_described(compared), "warnings": (*compared.warnings, *(_missed(goal, mean, timed_out) if goal else ()))},
    )


@dataclass(frozen=True, slots=True)
class _Goal:
    tolerance: float
    allowed: float
    """Of the sum's standard error, and of its distance from F's rise, in F's unit."""
    moved: float
    """F's rise from the references' mean to the instance."""

    @classmethod
    def of(cls, case: Case, compared: References, tolerance: float) -> _Goal:
        relative_to = scale(case.instance_output, compared.output)
        return cls(tolerance, tolerance * relative_to, case.instance_output - compared.output)

    @property
    def spread(self) -> float:
        return SPREAD * self.tolerance

    def reached(self, mean: Mean, *, but_the_sum: bool = False) -> bool:
        """Whether the standard errors are small enough and, unless left out, what is known of the sum is met."""
        if mean.standard_error is None or mean.spread is None:
            return False
        within = mean.standard_error <= self.allowed and mean.spread <= self.spread
        return within and (but_the_sum or abs(mean.total - self.moved) <= self.allowed)


def _missed(goal: _Goal, mean: Mean, timed_out: bool) -> tuple[str, ...]:
    """What to say where the standard errors are larger than asked for."""
    if goal.reached(mean, but_the_sum=True):
        return ()
    why = "the time was up" if timed_out else f"after {mean.count} samples"
    if mean.standard_error is None or mean.spread is None:
        return (f"too few samples to tell their standard error ({why})",)
    return (
        f"the standard error of the attributions is {mean.spread:.2g} of their length and {mean.standard_error:.2g} of their sum ({why}); "
        f"the tolerance aims at {goal.spread:.2g} and {goal.allowed:.2g}",
    )


class _Samples:
    """Gradient times way between references and the instance, noise added to it row by row, so that what a sample is doesn't
    depend on how many go into a pass."""

    def __init__(self, case: Case, problem: Problem, compared: References, noise: float, generator: torch.Generator) -> None:
        self._case, self._problem, self._generator = case, problem, generator
        self._references = problem.of_active(compared.points)
        self._point = problem.of_active(case.point)
        self._deviations = tuple((noise * s).expand_as(p) for s, p in zip(problem.of_active(spans(case)), self._point, strict=True))
        self.rows = 0
        """Of gradients, so far."""

    def of(self, drawn: Drawn) -> Tensor:
        """(n, M) for some samples, as many as go into a pass: the active tensors' elements side by side."""
        case, problem, rows = self._case, self._problem, len(drawn.places)
        starts = tuple(r[drawn.references] for r in self._references)
        ends = tuple(self._noisy(p, d, rows) for p, d in zip(self._point, self._deviations, strict=True))
        parts = torch.from_numpy(drawn.places)
        between = [t.expand(rows, *t.shape[1:]) for t in case.point]
        for place, start, end in zip(problem.active, starts, ends, strict=True):
            part = parts.to(end.dtype).reshape(-1, *(1,) * (end.dim() - 1))
            between[place] = part * end + (1 - part) * start
        found = case.gradients(tuple(between))
        self.rows += rows
        ways = [(end - start).flatten(1) for start, end in zip(starts, ends, strict=True)]
        return torch.cat(
            [torch.zeros_like(w) if (g := found[i]) is None else w * g.flatten(1) for i, w in zip(problem.active, ways, strict=True)], 1
        )

    def _noisy(self, point: Tensor, deviation: Tensor, rows: int) -> Tensor:
        """(rows, ..)"""
        if not deviation.any():
            return point.expand(rows, *point.shape[1:])
        return torch.cat([point + torch.normal(0.0, deviation, generator=self._generator) for _ in range(rows)])


def _split(problem: Problem, values: Tensor) -> Tensors:
    """The active tensors' attributions, without batch axis, of all elements (M,) side by side."""
    shapes = [t.shape[1:] for t in problem.of_active(problem.point)]
    parts = torch.split(values, [shape.numel() for shape in shapes])
    return tuple(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))

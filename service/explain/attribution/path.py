"""Integrated gradients: a fixed number of nodes by Captum, or as many as a tolerance takes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from service.explain.attribution.found import Found, require_parity
from service.explain.attribution.integrate import PIECES, Array, Goal, Integral, Places, TooRough, Vectors, cuts_by_movement, integrate
from service.explain.attribution.problem import Problem, captum_class, first_rows
from service.explain.case import Case, Tensors, scale
from service.explain.methods.path import DEFAULT_TOLERANCE, IntegratedGradientsParameters

FEWEST_NODES = 64
"""However little memory there is for their vectors."""
SPREAD = 10
"""Times the tolerance is, where nothing else is asked for, how far the attributions may be from the integral, by estimate. A sum
misses less than a vector: the elements' errors cancel in it."""
ROUGH = 0.03
"""The least distance from the integral for which mixed precision is tried: bfloat16 has eight binary digits."""


def run(case: Case) -> Found:
    parameters = case.request.parameters
    assert isinstance(parameters, IntegratedGradientsParameters)  # the table says so
    problem = Problem.of(case)
    compared = {"baseline": case.baseline.described, "baseline_output": case.baseline.output}
    if (steps := parameters.steps) is not None:
        return _by_captum(case, problem, steps, compared)
    tolerance = parameters.tolerance or DEFAULT_TOLERANCE
    relative_to = scale(case.instance_output, case.baseline.output)
    held = sum(t.nbytes for t in problem.of_active(case.point))  # a node keeps its vector until the end
    goal = Goal(
        rise=case.instance_output - case.baseline.output,
        allowed=tolerance * relative_to,
        spread=parameters.integration_tolerance or SPREAD * tolerance,
        most=min(parameters.max_steps, max(FEWEST_NODES, case.memory // held)),
        rounding=lambda: case.rounding,
        trusted=not (case.subject.status.straight_through or case.subject.status.gradient_gaps),
    )
    known = {0.0: case.baseline.output, 1.0: case.instance_output}
    heights = functools.partial(_heights, case, known)
    along, cuts = functools.partial(vectors, case, problem), _first_cuts(case, heights, goal)
    try:
        case.form = "mixed" if _mixed_pays(case, parameters, goal, len(cuts)) else "folded"
        integral = integrate(along, heights, cuts, goal)
    except TooRough:
        case.form, case.rounding = "folded", 0.0
        integral = integrate(along, heights, cuts, goal)
    fields = {
        "integration_error": integral.spread,
        "uncalibrated_error": abs(integral.missed) / relative_to,
        "forward_rows": len(known),
        "precision": "bfloat16" if case.form == "mixed" else "float32",
    }
    chosen = {"rule": "midpoints, adaptive, calibrated", "tolerance": tolerance, "integration_tolerance": goal.spread}
    return Found(
        problem.attributions(_split(problem, integral)),
        integral.steps,
        integral.steps,
        integral.timed_out,
        integral.spread <= goal.spread,
        parameters=chosen,
        warnings=_warnings(integral, goal),
        fields=fields,
        **compared,
    )


def _mixed_pays(case: Case, parameters: IntegratedGradientsParameters, goal: Goal, rows: int) -> bool:
    """Whether so many rows, the first pieces' and the instance's, are tried in mixed precision."""
    subject = case.subject
    return subject.mixed is not None and rows >= subject.mixed_from and parameters.precision == "auto" and goal.spread >= ROUGH


def _by_captum(case: Case, problem: Problem, steps: int, compared: dict[str, Any]) -> Found:
    require_parity(case)
    captum = captum_class(case.request.method)(problem.reordered)
    point, baseline = problem.of_active(case.point), problem.of_active(case.baseline.point)
    found = captum.attribute(point, baseline, None, problem.arguments, steps, internal_batch_size=case.rows)
    chosen: dict[str, Any] = {"rule": "gauss-legendre", "tolerance": None, "integration_tolerance": None}
    return Found(problem.attributions(first_rows(found)), steps, steps, parameters=chosen, **compared)


def _first_cuts(case: Case, heights: Any, goal: Goal) -> Places:
    course = case.subject.course
    if course is not None and course.described == case.baseline.described:
        return course.cuts(goal.spread, goal.most)
    return cuts_by_movement(heights, min(PIECES, goal.most))


def _warnings(integral: Integral, goal: Goal) -> tuple[str, ...]:
    if integral.spread <= goal.spread:
        return ()
    why = "the time was up" if integral.timed_out else f"after {integral.steps} steps"
    far = f"{integral.spread:.2g} of their length" if np.isfinite(integral.spread) else "any distance"
    return (f"the attributions may be {far} away from the integral ({why}); the tolerance aims at {goal.spread:.2g}",)


def vectors(case: Case, problem: Problem, nodes: Places) -> Vectors:
    """Gradient times way (S, M) at nodes of the straight path from baseline to instance, the active tensors' elements side by
    side. A case's first nodes have the instance beside them, which tells the twin's parity and, in mixed precision, how far that is
    off. Raises Untrusted."""
    places = nodes if "parity" in vars(case) else np.concatenate((nodes, (1.0,)))
    start, end = case.baseline.point, case.point
    ways = [(end[i] - start[i]).flatten(1).numpy() for i in problem.active]  # (1, m) each
    found = np.empty((len(places), sum(way.shape[1] for way in ways)), np.float32)
    for i in range(0, len(places), case.rows):
        part = places[i : i + case.rows]
        moving = along(start, end, part)
        points = tuple(end[k].expand_as(t) if k in problem.passive else t for k, t in enumerate(moving))
        gradients = case.gradients(points, ends_at_instance=len(places) > len(nodes) and i + len(part) == len(places))
        _times([gradients[k] for k in problem.active], ways, found[i : i + len(part)])
    require_parity(case)
    if case.form == "mixed" and len(places) > len(nodes):
        (exact,) = vectors(case.in_form("folded"), problem, np.ones(1))
        case.rounding = float(np.linalg.norm(found[-1] - exact) / max(np.linalg.norm(exact), np.finfo(np.float32).tiny))
    return found[: len(nodes)]


def _times(gradients: Sequence[Tensor | None], ways: Sequence[Vectors], into: Vectors) -> None:
    """Gradients (S, ..) times the ways (1, m) from baseline to instance, side by side into (S, M)."""
    end = 0
    for gradient, way in zip(gradients, ways, strict=True):
        start, end = end, end + way.shape[1]
        if gradient is None:  # this target doesn't depend on this input
            into[:, start:end] = 0
        else:
            np.multiply(gradient.flatten(1).numpy(), way, out=into[:, start:end])


def along(start: Tensors, end: Tensors, places: Places) -> Tensors:
    """The points of the straight path at `places` (S,), as tensors (S, ..)."""
    fractions = torch.from_numpy(places)
    return tuple(torch.lerp(a, b, fractions.to(a.dtype).reshape(-1, *(1,) * (a.dim() - 1))) for a, b in zip(start, end, strict=True))


def _heights(case: Case, known: dict[float, float], places: Places) -> Array:
    """F of the served model at places of the straight path from the baseline (0) to the instance (1); those in `known` without
    asking."""
    asked = np.asarray([p for p in places.tolist() if p not in known])
    if len(asked):
        known |= dict(zip(asked.tolist(), case.served(along(case.baseline.point, case.point, asked)).tolist(), strict=True))
    return np.asarray([known[p] for p in places.tolist()])


def _split(problem: Problem, integral: Integral) -> Tensors:
    """The active tensors' attributions, without batch axis."""
    every, parts = torch.from_numpy(integral.attributions), []
    end = 0
    for tensor in problem.of_active(problem.point):
        start, end = end, end + tensor.numel()
        parts.append(every[start:end].view(tensor.shape[1:]))
    return tuple(parts)

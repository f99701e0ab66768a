"""Integrated gradients by Captum: a fixed number of nodes, or as many as a tolerance takes."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from service.explain.attribution.found import Found
from service.explain.attribution.integrate import Places, along, integrate
from service.explain.attribution.problem import Problem, captum_class, expanded, first_rows
from service.explain.case import Case, Tensors, scale
from service.explain.methods.path import DEFAULT_TOLERANCE, IntegratedGradientsParameters


def run(case: Case) -> Found:
    parameters = case.request.parameters
    assert isinstance(parameters, IntegratedGradientsParameters)  # the table says so
    problem = Problem.of(case)
    captum = captum_class(case.request.method)(problem.reordered)
    point, baseline = problem.of_active(case.point), problem.of_active(case.baseline.point)
    compared = {"baseline": case.baseline.described, "baseline_output": case.baseline.output}
    if (steps := parameters.steps) is not None:
        found = captum.attribute(point, baseline, None, problem.arguments, steps, internal_batch_size=case.rows)
        chosen: dict[str, Any] = {"rule": "gauss-legendre", "tolerance": None}
        return Found(problem.attributions(first_rows(found)), steps, steps, parameters=chosen, **compared)
    tolerance = parameters.tolerance or DEFAULT_TOLERANCE
    integral = integrate(
        baseline,
        point,
        functools.partial(_in_passes, captum, problem, case.rows),
        functools.partial(_heights, case, {0.0: case.baseline.output, 1.0: case.instance_output}),
        tolerance * scale(case.instance_output, case.baseline.output),
        parameters.max_steps,
    )
    attributions = problem.attributions(integral.attributions)
    chosen = {"rule": "midpoints, adaptive", "tolerance": tolerance}
    return Found(attributions, integral.steps, integral.steps, integral.timed_out, parameters=chosen, **compared)


def _in_passes(captum: Any, problem: Problem, rows: int, starts: Tensors, ends: Tensors) -> Tensors:
    """Integrated gradients (S, ..) of S straight pieces, one Gauss-Legendre node (the middle) each."""
    passes = []
    for i in range(0, len(starts[0]), rows):
        begin, end = (tuple(t[i : i + rows] for t in points) for points in (starts, ends))
        passes.append(captum.attribute(end, begin, None, expanded(problem.arguments, len(begin[0])), n_steps=1))
    return tuple(torch.cat(column) for column in zip(*passes, strict=True))


def _heights(case: Case, known: dict[float, float], places: Places) -> Places:
    """F of the served model at places of the straight path from the baseline (0) to the instance (1); those in `known` without
    asking."""
    asked = np.asarray([p for p in places.tolist() if p not in known])
    if len(asked):
        known |= dict(zip(asked.tolist(), case.served(along(case.baseline.point, case.point, asked)).tolist(), strict=True))
    return np.asarray([known[p] for p in places.tolist()])

"""Integrated gradients: a fixed number of nodes by Captum, or as many as a tolerance takes."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from service.explain.attribution.found import Found
from service.explain.attribution.integrate import PIECES, Places, along, integrate
from service.explain.attribution.problem import Problem, captum_class, first_rows
from service.explain.case import Case, Tensors, scale
from service.explain.methods.path import DEFAULT_TOLERANCE, IntegratedGradientsParameters

FEWEST_NODES = 4 * PIECES
"""However little memory there is for their attributions."""


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
    known = {0.0: case.baseline.output, 1.0: case.instance_output}
    held = sum(t.nbytes for t in point)  # a node keeps its attributions until the end
    integral = integrate(
        functools.partial(_nodes, case, problem),
        functools.partial(_heights, case, known),
        tolerance * scale(case.instance_output, case.baseline.output),
        min(parameters.max_steps, max(FEWEST_NODES, case.memory // held)),
    )
    attributions = problem.attributions(integral.attributions)
    chosen = {"rule": "midpoints, adaptive", "tolerance": tolerance}
    fields = {"forward_rows": len(known)}
    return Found(attributions, integral.steps, integral.steps, integral.timed_out, parameters=chosen, fields=fields, **compared)


def _nodes(case: Case, problem: Problem, nodes: Places, widths: Places) -> Tensors:
    """Integrated gradients (S, ..) of S pieces of the path, one node each: what Captum gives for each piece with `n_steps=1`,
    but in passes that others may share."""
    start, end = case.baseline.point, case.point
    ways = [(end[i] - start[i]) for i in problem.active]
    passes = []
    for i in range(0, len(nodes), case.rows):
        places = nodes[i : i + case.rows]
        moving = along(start, end, places)
        points = tuple(end[k].expand_as(t) if k in problem.passive else t for k, t in enumerate(moving))
        gradients = case.gradients(points)
        share = torch.from_numpy(widths[i : i + case.rows])
        passes.append(tuple(_share(gradients[k], way, share) for k, way in zip(problem.active, ways, strict=True)))
    return tuple(torch.cat(column) for column in zip(*passes, strict=True))


def _share(gradients: Tensor | None, way: Tensor, widths: Tensor) -> Tensor:
    """(S, ..): gradients times the way from baseline to instance, (1, ..), times the widths (S,) of the pieces."""
    if gradients is None:  # this target doesn't depend on this input
        return torch.zeros_like(way).expand(len(widths), *way.shape[1:])
    return gradients * way * widths.to(gradients.dtype).reshape(-1, *(1,) * (way.dim() - 1))


def _heights(case: Case, known: dict[float, float], places: Places) -> Places:
    """F of the served model at places of the straight path from the baseline (0) to the instance (1); those in `known` without
    asking."""
    asked = np.asarray([p for p in places.tolist() if p not in known])
    if len(asked):
        known |= dict(zip(asked.tolist(), case.served(along(case.baseline.point, case.point, asked)).tolist(), strict=True))
    return np.asarray([known[p] for p in places.tolist()])

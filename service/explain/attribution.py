"""Runs a method of Captum on one instance: single passes, fixed numbers of nodes, or integration to a tolerance."""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from service.errors import NotExplainable
from service.explain.integrate import Heights, Tensors, integrate
from service.explain.methods import ExplainRequest, IntegratedGradientsParameters, Method


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """What a method is asked about one instance: tensors (1, ..) where attributions are taken, and F around them."""

    forward: Callable[..., Tensor]
    """(attributed tensors (N, ..), then `others` (N, ..)) to F (N,)."""
    point: Tensors
    baseline: Tensors
    others: Tensors
    passive: tuple[int, ...]
    """Places in `point` of tensors that no gradient reaches: their attributions are zero."""
    heights: Heights
    """F of the served model on the straight path from `baseline` to `point`."""
    allowed: float
    """Error that the sum of the attributions may have."""
    rows: int
    """Most rows of a pass."""

    @property
    def active(self) -> tuple[int, ...]:
        return tuple(i for i in range(len(self.point)) if i not in self.passive)

    def of_active(self, tensors: Tensors) -> Tensors:
        return tuple(tensors[i] for i in self.active)

    @property
    def arguments(self) -> Tensors | None:
        """What Captum hands on beside the active tensors; it wants None for nothing."""
        return (*(self.point[i] for i in self.passive), *self.others) or None

    def reordered(self, *tensors: Tensor) -> Tensor:
        """`forward` for the active tensors, then `arguments`, as Captum calls it."""
        ordered = list(tensors)
        for place, tensor in zip((*self.active, *self.passive), tensors, strict=False):
            ordered[place] = tensor
        return self.forward(*ordered)

    def completed(self, active: Tensors) -> Tensors:
        """Attributions of every tensor in `point`, without batch axis, from those of the active ones."""
        every = [torch.zeros_like(t[0]) for t in self.point]
        for place, tensor in zip(self.active, active, strict=True):
            every[place] = tensor.detach()
        return tuple(every)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """A method's answer: attributions of each attributed tensor, without batch axis; nodes and rows of gradients it took."""

    attributions: Tensors
    steps: int
    rows: int
    timed_out: bool = False


def attribute(request: ExplainRequest, problem: Problem) -> Found:
    """Attributions by the method asked for. Raises NotExplainable where no gradient reaches anything; TimeUp, Cancelled."""
    if not problem.active:
        raise NotExplainable("no gradient of the model's output reaches any of its inputs")
    method, parameters = request.method, request.parameters
    captum = _captum(method, problem.reordered)
    if not method.integrates:
        arguments = {theirs: getattr(parameters, own) for own, theirs in method.arguments.items()}
        points = tuple(t.detach().requires_grad_() for t in problem.of_active(problem.point))
        found = captum.attribute(points, additional_forward_args=problem.arguments, **arguments)
        return Found(problem.completed(tuple(t[0] for t in found)), 1, 1)
    assert isinstance(parameters, IntegratedGradientsParameters)  # the table says so
    point, baseline = problem.of_active(problem.point), problem.of_active(problem.baseline)
    if parameters.steps is not None:
        found = captum.attribute(point, baseline, None, problem.arguments, parameters.steps, internal_batch_size=problem.rows)
        return Found(problem.completed(tuple(t[0] for t in found)), parameters.steps, parameters.steps)
    pieces = functools.partial(_in_passes, captum, problem)
    integral = integrate(baseline, point, pieces, problem.heights, problem.allowed, parameters.max_steps)
    return Found(problem.completed(integral.attributions), integral.steps, integral.steps, integral.timed_out)


def _in_passes(captum: Any, problem: Problem, starts: Tensors, ends: Tensors) -> Tensors:
    """Integrated gradients (S, ..) of S straight pieces, one Gauss-Legendre node (the middle) each."""
    passes = []
    for i in range(0, len(starts[0]), problem.rows):
        begin, end = (tuple(t[i : i + problem.rows] for t in points) for points in (starts, ends))
        repeated = problem.arguments and tuple(t.expand(len(begin[0]), *t.shape[1:]) for t in problem.arguments)
        passes.append(captum.attribute(end, begin, None, repeated, n_steps=1))
    return tuple(torch.cat(column) for column in zip(*passes, strict=True))


def _captum(method: Method, forward: Callable[..., Tensor]) -> Any:
    module, _, name = method.captum.rpartition(".")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Captum's own imports
        return getattr(importlib.import_module(module), name)(forward)

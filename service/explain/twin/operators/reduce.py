"""Reductions over axes. The axes were an attribute first, and became an input at opset 13 (ReduceSum) or 18 (the others)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from service.explain.twin.registry import named, operator

Reduction = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def _mean(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return x.mean(axes, keep) if x.is_floating_point() else torch.div(x.sum(axes, keep), _count(x, axes), rounding_mode="trunc").to(x.dtype)


def _count(x: Tensor, axes: tuple[int, ...]) -> int:
    return functools.reduce(int.__mul__, (x.shape[a] for a in axes), 1)


def _sum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return x.sum(axes, keep, dtype=x.dtype)


def _product(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted((a % x.dim() for a in axes), reverse=True):
        x = x.prod(axis, keep, dtype=x.dtype)
    return x


def _log_sum_exp(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return torch.logsumexp(x if x.is_floating_point() else x.double(), axes, keep).to(x.dtype)


def _of_floats(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return function(x if x.is_floating_point() else x.double()).to(x.dtype)


def _extremum(function: Callable[..., Tensor], x: Tensor, axes: tuple[int, ...], keep: bool, *, least: bool) -> Tensor:
    """Of nothing: the least value of the type for a maximum, the greatest for a minimum."""
    if x.numel():
        return function(x, axes, keep)
    shape = x.sum(axes, keep).shape
    if x.dtype == torch.bool:
        return x.new_full(shape, not least)
    if x.is_floating_point():
        return x.new_full(shape, float("-inf" if least else "inf"))
    return x.new_full(shape, torch.iinfo(x.dtype).min if least else torch.iinfo(x.dtype).max)


REDUCTIONS: dict[str, Reduction] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceProd": _product,
    "ReduceMax": lambda x, axes, keep: _extremum(torch.amax, x, axes, keep, least=True),
    "ReduceMin": lambda x, axes, keep: _extremum(torch.amin, x, axes, keep, least=False),
    "ReduceL1": lambda x, axes, keep: _sum(x.abs(), axes, keep),
    "ReduceL2": lambda x, axes, keep: _of_floats(lambda y: (y * y).sum(axes, keep).sqrt(), x),
    "ReduceSumSquare": lambda x, axes, keep: _sum(x * x, axes, keep),
    "ReduceLogSum": lambda x, axes, keep: _of_floats(lambda y: y.sum(axes, keep).log(), x),
    "ReduceLogSumExp": _log_sum_exp,
}


def _reduce(reduction: Reduction, data: Tensor, axes: Sequence[int] | None, keepdims: int, noop: int) -> Tensor:
    if not axes and noop:  # nothing is summed up, but what is done to each element still is
        return reduction(data.unsqueeze(0), (0,), False)
    chosen = tuple(axes) if axes else tuple(range(data.dim()))
    return reduction(data, chosen, bool(keepdims)) if data.dim() else reduction(data.reshape(1), (0,), False)


def _with_attribute(reduction: Reduction) -> Callable[..., Tensor]:
    def reduce(data: Tensor, *, axes: Sequence[int] | None = None, keepdims: int = 1) -> Tensor:
        return _reduce(reduction, data, axes, keepdims, 0)

    return reduce


def _with_input(reduction: Reduction) -> Callable[..., Tensor]:
    def reduce(data: Tensor, axes: Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
        return _reduce(reduction, data, None if axes is None else axes.tolist(), keepdims, noop_with_empty_axes)

    return reduce


for _name, _reduction in REDUCTIONS.items():
    named(_name, _with_attribute(_reduction))
    named(f"{_name}_{13 if _name == 'ReduceSum' else 18}", _with_input(_reduction))


def _extreme(largest: Callable[..., Tensor], data: Tensor, axis: int, keepdims: int, select_last_index: int) -> Tensor:
    """The first (or last) place of the largest: torch promises neither, so it is looked for."""
    best = largest(data, axis, keepdim=True)
    hit = (data == best).to(torch.uint8)
    size = data.shape[axis]
    places = torch.arange(size, device=data.device).reshape(-1, *(1,) * (data.dim() - 1 - axis % data.dim()))
    found = torch.where(hit.bool(), places, -1 if select_last_index else size)
    return found.amax(axis, bool(keepdims)) if select_last_index else found.amin(axis, bool(keepdims))


@operator
def ArgMax(data: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    return _extreme(torch.amax, data, axis, keepdims, select_last_index)


@operator
def ArgMin(data: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    return _extreme(torch.amin, data, axis, keepdims, select_last_index)


@operator
def CumSum(x: Tensor, axis: Tensor, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    return _cumulated(functools.partial(torch.cumsum, dtype=x.dtype), x, int(axis), exclusive, reverse, 0)


@operator
def CumProd(x: Tensor, axis: Tensor, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    return _cumulated(functools.partial(torch.cumprod, dtype=x.dtype), x, int(axis), exclusive, reverse, 1)


def _cumulated(function: Callable[[Tensor, int], Tensor], x: Tensor, axis: int, exclusive: int, reverse: int, start: int) -> Tensor:
    turned = x.flip(axis) if reverse else x
    if exclusive:
        first = torch.full_like(turned.narrow(axis, 0, 1), start)
        turned = torch.cat([first, turned.narrow(axis, 0, turned.shape[axis] - 1)], axis)
    result = function(turned, axis)
    return result.flip(axis) if reverse else result

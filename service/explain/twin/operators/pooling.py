"""Pooling over windows and over whole planes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from service.explain.twin.operators.convolution import Window, pad
from service.explain.twin.registry import Bound, Constant, Dynamic, module_form, operator

_MAX: tuple[Callable[..., Tensor], ...] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
_CONV: tuple[Callable[..., Tensor], ...] = (F.conv1d, F.conv2d, F.conv3d)
MAX: tuple[Callable[..., nn.Module], ...] = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
AVERAGE: tuple[Callable[..., nn.Module], ...] = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
ADAPTIVE_AVERAGE: tuple[Callable[..., nn.Module], ...] = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
ADAPTIVE_MAX: tuple[Callable[..., nn.Module], ...] = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)


def _padding(window: Window, sizes: Sequence[int], ceil_mode: int) -> list[tuple[int, int]]:
    """The padding with what `ceil_mode` adds at the end so that the last window is whole.

    A window that would begin in the end's padding is left out, as in ONNX Runtime and torch.
    """
    result = []
    for axis, (begin, end) in enumerate(window.padding(sizes)):
        extent = (window.kernel[axis] - 1) * window.dilations[axis] + 1
        stride, room = window.strides[axis], sizes[axis] + begin + end - extent
        if ceil_mode and room % stride:
            count = -(-room // stride)
            if count * stride < sizes[axis] + begin:
                end += count * stride - room
        result.append((begin, end))
    return result


@operator
def MaxPool(
    X: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
    outputs: int = 1,
) -> tuple[Tensor, ...]:
    window = Window.of(kernel_shape, strides, dilations, pads, auto_pad)
    padding = _padding(window, X.shape[2:], ceil_mode)
    lowest = float("-inf") if X.is_floating_point() else torch.iinfo(X.dtype).min
    padded = pad(X.float() if not X.is_floating_point() else X, padding, lowest)
    pool = _MAX[window.rank - 1]
    if outputs == 1:
        return (pool(padded, window.kernel, window.strides, 0, window.dilations).to(X.dtype),)
    values, where = pool(padded, window.kernel, window.strides, 0, window.dilations, return_indices=True)
    return values.to(X.dtype), _flat_indices(where, X.shape, padded.shape[2:], padding, storage_order)


def _flat_indices(
    where: Tensor, shape: Sequence[int], padded: Sequence[int], padding: Sequence[tuple[int, int]], storage_order: int
) -> Tensor:
    """torch's index into a padded plane to ONNX's index into the whole tensor."""
    rest, places = where, []
    for size, (begin, _) in zip(reversed(padded), reversed(padding), strict=True):
        places.append(rest % size - begin)  # from the last axis to the first
        rest = rest // size
    axes = list(zip(reversed(shape[2:]), places, strict=True))
    flat, scale = torch.zeros_like(where), 1
    for size, place in reversed(axes) if storage_order else axes:
        flat, scale = flat + place * scale, scale * size
    planes = torch.arange(math.prod(shape[:2]), device=where.device).reshape(*shape[:2], *(1,) * (where.dim() - 2))
    return flat + planes * scale


@module_form(MaxPool)
def max_pool(
    X: Constant,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
    outputs: int = 1,
) -> Bound | None:
    window = Window.of(kernel_shape, strides, dilations, pads, auto_pad)
    if outputs > 1 or window.rank > 3:
        return None
    if window.symmetric and all(2 * p <= k for p, k in zip(window.begins, window.kernel, strict=True)):
        return Bound(MAX[window.rank - 1](window.kernel, window.strides, window.begins, window.dilations, ceil_mode=bool(ceil_mode)))
    module = MAX[window.rank - 1](window.kernel, window.strides, 0, window.dilations)
    return Bound(module, lambda m, x: m(pad(x, _padding(window, x.shape[2:], ceil_mode), float("-inf"))))


@operator
def AveragePool(
    X: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """The windows' sums by their counts; padding counts on demand, what `ceil_mode` adds never does."""
    window = Window.of(kernel_shape, strides, dilations, pads, auto_pad)
    full = _padding(window, X.shape[2:], ceil_mode)
    counted = pad(X.new_ones(1, 1, *X.shape[2:]), window.padding(X.shape[2:]), 1.0 if count_include_pad else 0.0)
    grown = [(0, a[1] - b[1]) for a, b in zip(full, window.padding(X.shape[2:]), strict=True)]
    return _sums(pad(X, full), window) / _sums(pad(counted, grown), window)


def _sums(x: Tensor, window: Window) -> Tensor:
    """The sum over each window of x (N, C, spatial..)."""
    ones = x.new_ones(1, 1, *window.kernel)
    planes = x.reshape(-1, 1, *x.shape[2:])  # (N * C, 1, spatial..)
    sums = _CONV[window.rank - 1](planes, ones, None, window.strides, 0, window.dilations)
    return sums.reshape(*x.shape[:2], *sums.shape[2:])


@module_form(AveragePool)
def average_pool(
    X: Constant,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Bound | None:
    window = Window.of(kernel_shape, strides, dilations, pads, auto_pad)
    small = all(2 * p <= k for p, k in zip(window.begins, window.kernel, strict=True))
    if window.rank > 3 or not window.symmetric or not small or set(window.dilations) != {1} or ceil_mode:
        return None
    return Bound(AVERAGE[window.rank - 1](window.kernel, window.strides, window.begins, count_include_pad=bool(count_include_pad)))


@operator
def LpPool(
    X: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    p: int = 2,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    window = Window.of(kernel_shape, strides, dilations, pads, auto_pad)
    return _sums(pad(X.abs() ** p, _padding(window, X.shape[2:], ceil_mode)), window) ** (1 / p)


def _spatial(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))


@operator
def GlobalAveragePool(X: Tensor) -> Tensor:
    return X.mean(_spatial(X), keepdim=True)


@operator
def GlobalMaxPool(X: Tensor) -> Tensor:
    return X.amax(_spatial(X), keepdim=True)


@operator
def GlobalLpPool(X: Tensor, *, p: int = 2) -> Tensor:
    return (X.abs() ** p).sum(_spatial(X), keepdim=True) ** (1 / p)


@module_form(GlobalAveragePool)
def global_average_pool(X: Constant) -> Bound | None:
    return _adaptive(X, ADAPTIVE_AVERAGE)


@module_form(GlobalMaxPool)
def global_max_pool(X: Constant) -> Bound | None:
    return _adaptive(X, ADAPTIVE_MAX)


def _adaptive(X: Constant, classes: Sequence[Callable[[int], nn.Module]]) -> Bound | None:
    if not isinstance(X, Dynamic) or X.rank not in (3, 4, 5):
        return None
    return Bound(classes[X.rank - 3](1))

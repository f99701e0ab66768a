"""Integers as scaled floats. Rounding has no gradient, so a quantised model is explained by methods without one."""

from __future__ import annotations

import torch
from torch import Tensor

from service.explain.twin.dtypes import torch_dtype
from service.explain.twin.registry import operator


def _along(scale: Tensor, x: Tensor, axis: int, block_size: int) -> Tensor:
    """A scale or zero point of x: one number, one an index of `axis`, or one a block of `block_size` along it."""
    if block_size:
        return scale.repeat_interleave(block_size, axis).narrow(axis, 0, x.shape[axis])
    if scale.numel() == 1:
        return scale.reshape(())
    return scale.reshape(-1, *(1,) * (x.dim() - 1 - axis % x.dim()))


@operator
def QuantizeLinear(
    x: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
) -> Tensor:
    kind = y_zero_point.dtype if y_zero_point is not None else torch_dtype(output_dtype) if output_dtype else torch.uint8
    zero = 0 if y_zero_point is None else _along(y_zero_point.to(x.dtype), x, axis, block_size)
    limits = torch.iinfo(kind)
    rounded = torch.round(x / _along(y_scale, x, axis, block_size)) + zero
    return rounded.clamp(limits.min, limits.max).to(kind)


@operator
def DequantizeLinear(
    x: Tensor, x_scale: Tensor, x_zero_point: Tensor | None = None, *, axis: int = 1, block_size: int = 0, output_dtype: int = 0
) -> Tensor:
    kind = torch_dtype(output_dtype) if output_dtype else x_scale.dtype
    shifted = x.to(kind) if x_zero_point is None else x.to(kind) - _along(x_zero_point.to(kind), x, axis, block_size)
    return shifted * _along(x_scale.to(kind), x, axis, block_size)


@operator
def DynamicQuantizeLinear(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    scale = (high - low) / 255
    zero = torch.round((0 - low) / scale).clamp(0, 255)
    return torch.clamp(torch.round(x / scale) + zero, 0, 255).to(torch.uint8), scale, zero.to(torch.uint8)


@operator
def MatMulInteger(A: Tensor, B: Tensor, a_zero_point: Tensor | None = None, b_zero_point: Tensor | None = None) -> Tensor:
    # In float64, which holds these integers exactly and is what torch multiplies fast.
    a, b = A.double(), B.double()
    if a_zero_point is not None:
        a = a - (a_zero_point.double().unsqueeze(-1) if a_zero_point.dim() == 1 else a_zero_point.double())
    if b_zero_point is not None:
        b = b - b_zero_point.double()
    return torch.matmul(a, b).to(torch.int32)

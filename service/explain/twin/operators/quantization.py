"""Integers as scaled floats, with a straight-through gradient.

Rounding has no gradient. As in training with quantisation, it is passed as if it weren't there, and stops where the value
saturates (Bengio et al. 2013, arXiv:1308.3432); the operators are marked `straight_through`, so that an answer can say so.
torch's integers carry no gradient: where one is asked for, a quantised value is held in a float that has that integer's value.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from onnx import TensorProto
from torch import Tensor

from service.explain.twin.dtypes import ONNX_BY_TORCH, RANGE_BY_ONNX, limits, torch_dtype
from service.explain.twin.operators.casts import cast, to_float4
from service.explain.twin.registry import in_domain, operator, straight_through


def quantised(x: Tensor, kind: int) -> Tensor:
    """x, in units of the quantum, rounded to even and saturated to the integer type `kind` (TensorProto.DataType).

    Of that type where no gradient is asked for, else of x's own with a straight-through gradient.
    """
    low, high = limits(kind)
    rounded = torch.round(x).clamp(low, high)
    if not x.requires_grad:
        return rounded.to(torch_dtype(kind))
    within = x.clamp(low, high)
    return within + (rounded - within).detach()


def real(x: Tensor, scale: Tensor, zero: Tensor | None, axis: int = 1) -> Tensor:
    """What a quantised x stands for, in float64, which holds products of these integers exactly."""
    shifted = x.double() if zero is None else x.double() - along(zero.double(), x, axis)
    return shifted * along(scale.double(), x, axis)


def requantised(x: Tensor, scale: Tensor, zero: Tensor | None, kind: int, axis: int = 1) -> Tensor:
    """The inverse of `real`, with rounding; `kind` where no zero point tells the type."""
    quanta = x / along(scale.to(x.dtype), x, axis)
    shifted = quanta if zero is None else _round_first(quanta) + along(zero.to(x.dtype), x, axis)
    return quantised(shifted, kind if zero is None else ONNX_BY_TORCH[zero.dtype])


def _round_first(x: Tensor) -> Tensor:
    """Ties are even before the zero point is added, not after it."""
    return x + (torch.round(x) - x).detach() if x.requires_grad else torch.round(x)


def along(scale: Tensor, x: Tensor, axis: int, block_size: int = 0) -> Tensor:
    """A scale or zero point of x: one number, one an index of `axis`, or one a block of `block_size` along it."""
    if block_size:
        return scale.repeat_interleave(block_size, axis).narrow(axis, 0, x.shape[axis])
    if scale.numel() == 1:
        return scale.reshape(())
    return scale.reshape(-1, *(1,) * (x.dim() - 1 - axis % x.dim()))


@straight_through
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
    elements: Sequence[int] = (),
) -> Tensor:
    """Straight-through gradient."""
    given = elements[2] if len(elements) > 2 else 0
    kind = given or (ONNX_BY_TORCH[y_zero_point.dtype] if y_zero_point is not None else output_dtype or TensorProto.UINT8)
    scaled = x / along(y_scale, x, axis, block_size)
    if kind == TensorProto.FLOAT4E2M1:
        return scaled + (to_float4(scaled) - scaled).detach()
    if torch_dtype(kind).is_floating_point:
        return cast(scaled, kind, saturate=bool(saturate))
    if y_zero_point is None:
        return quantised(scaled, kind)
    # float32 holds every zero point of these types; float16 doesn't hold those of 16 bits.
    rounded = _round_first(scaled if kind in RANGE_BY_ONNX or kind in (TensorProto.INT8, TensorProto.UINT8) else scaled.float())
    return quantised(rounded + along(y_zero_point.to(rounded.dtype), x, axis, block_size), kind)


@operator
def DequantizeLinear(
    x: Tensor, x_scale: Tensor, x_zero_point: Tensor | None = None, *, axis: int = 1, block_size: int = 0, output_dtype: int = 0
) -> Tensor:
    kind = torch_dtype(output_dtype) if output_dtype else x_scale.dtype
    exact = torch.float64 if x.dtype == torch.int32 else torch.float32 if kind.itemsize < 4 else kind  # differences of integers
    shifted = x.to(exact) if x_zero_point is None else x.to(exact) - along(x_zero_point.to(exact), x, axis, block_size)
    return (shifted * along(x_scale.to(exact), x, axis, block_size)).to(kind)


in_domain("com.microsoft")(QuantizeLinear.function)
in_domain("com.microsoft")(DequantizeLinear.function)


@straight_through
@operator
def DynamicQuantizeLinear(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Straight-through gradient; the scale and the zero point that x's own range makes are taken as constants."""
    low, high = x.detach().min().clamp(max=0), x.detach().max().clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.round((0 - low) / scale).clamp(0, 255)
    return quantised(_round_first(x / scale) + zero, TensorProto.UINT8), scale, zero.to(torch.uint8)

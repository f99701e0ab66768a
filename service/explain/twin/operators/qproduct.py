"""Matrix products and convolutions of quantised values: the standard's and those of ONNX Runtime's quantiser (`com.microsoft`).

Each computes what its inputs stand for and rounds the result once; straight-through gradients as in `quantization`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from onnx import TensorProto
from torch import Tensor

from service.explain.twin.operators.convolution import Conv
from service.explain.twin.operators.quantization import DynamicQuantizeLinear, real, requantised
from service.explain.twin.registry import in_domain, operator, straight_through

microsoft = in_domain("com.microsoft")


def _integers(x: Tensor, *sources: Tensor) -> Tensor:
    """An int32 result; held in float64 where a gradient is asked for."""
    return x if any(s.requires_grad for s in sources) else x.to(torch.int32)


@operator
def MatMulInteger(A: Tensor, B: Tensor, a_zero_point: Tensor | None = None, b_zero_point: Tensor | None = None) -> Tensor:
    one = torch.ones((), dtype=torch.float64, device=A.device)
    a = real(A, one, None if a_zero_point is None else _rows(a_zero_point, A), -2)
    return _integers(torch.matmul(a, real(B, one, b_zero_point, -1)), A, B)


def _rows(zero: Tensor, a: Tensor) -> Tensor:
    """A zero point a row, of a matrix or of a stack of them."""
    return zero.reshape(-1) if zero.numel() in (1, a.shape[-2] if a.dim() > 1 else 1) else zero


@operator
def ConvInteger(
    x: Tensor,
    w: Tensor,
    x_zero_point: Tensor | None = None,
    w_zero_point: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    one = torch.ones((), dtype=torch.float64, device=x.device)
    a, b = real(x, one, x_zero_point), real(w, one, w_zero_point, 0)
    how = {"auto_pad": auto_pad, "dilations": dilations, "group": group, "pads": pads, "strides": strides}
    return _integers(Conv(a, b, **how), x, w)  # type: ignore[arg-type]


@straight_through
@operator
def QLinearConv(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    B: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    channels_last: int = 0,
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """B is in quanta of x_scale * w_scale."""
    a = real(x, x_scale, x_zero_point)
    a = a.movedim(-1, 1) if channels_last else a
    bias = None if B is None else B.double() * (x_scale.double() * w_scale.double()).reshape(-1)
    how = {"auto_pad": auto_pad, "dilations": dilations, "group": group, "pads": pads, "strides": strides}
    y = Conv(a, real(w, w_scale, w_zero_point, 0), bias, **how)  # type: ignore[arg-type]
    return requantised(y.movedim(1, -1) if channels_last else y, y_scale, y_zero_point, 0)


microsoft(QLinearConv.function)


@straight_through
@operator
def QLinearMatMul(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
) -> Tensor:
    product = torch.matmul(real(a, a_scale, a_zero_point, -2), real(b, b_scale, b_zero_point, -1))
    return requantised(product, y_scale, y_zero_point, 0, -2)


@straight_through
@microsoft
def QGemm(
    A: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    B: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    C: Tensor | None = None,
    y_scale: Tensor | None = None,
    y_zero_point: Tensor | None = None,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    """C is in quanta of alpha * a_scale * b_scale; without y_scale the result is a float."""
    a = real(A, a_scale, a_zero_point)
    b = real(B, b_scale, b_zero_point, 0 if transB else 1)
    y = alpha * torch.matmul(a.T if transA else a, b.T if transB else b)
    if C is not None:
        y = y + C.double() * (alpha * a_scale.double() * b_scale.double())
    return y.float() if y_scale is None else requantised(y, y_scale, y_zero_point, TensorProto.UINT8)


@microsoft
def MatMulIntegerToFloat(
    A: Tensor,
    B: Tensor,
    a_scale: Tensor,
    b_scale: Tensor,
    a_zero_point: Tensor | None = None,
    b_zero_point: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    product = torch.matmul(real(A, a_scale, a_zero_point, -2), real(B, b_scale, b_zero_point, -1)).to(a_scale.dtype)
    return product if bias is None else product + bias


@straight_through
@microsoft
def DynamicQuantizeMatMul(A: Tensor, B: Tensor, b_scale: Tensor, b_zero_point: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    quanta, scale, zero = DynamicQuantizeLinear(A)
    return MatMulIntegerToFloat(quanta, B, scale, b_scale, zero, b_zero_point, bias)

"""Arithmetic on quantised values that are no products: the operators of ONNX Runtime's quantiser (`com.microsoft`).

Each computes what its inputs stand for and rounds the result once; straight-through gradients as in `quantization`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from onnx import TensorProto
from torch import Tensor

from service.explain.twin.dtypes import ONNX_BY_TORCH
from service.explain.twin.operators.activation import Softmax, Softmax_13
from service.explain.twin.operators.pooling import AveragePool
from service.explain.twin.operators.quantization import real, requantised
from service.explain.twin.registry import hides, in_domain, straight_through

microsoft = in_domain("com.microsoft")


def _kind(zero: Tensor | None, elements: Sequence[int]) -> int:
    """The type of the result: the zero point's, or where there is none the first input's."""
    return ONNX_BY_TORCH[zero.dtype] if zero is not None else elements[0] or TensorProto.UINT8


# ------------------------------------------------------------------------------------------------------- element by element


@straight_through
@microsoft
def QLinearAdd(
    A: Tensor,
    A_scale: Tensor,
    A_zero_point: Tensor | None,
    B: Tensor,
    B_scale: Tensor,
    B_zero_point: Tensor | None,
    C_scale: Tensor,
    C_zero_point: Tensor | None = None,
    *,
    elements: Sequence[int],
) -> Tensor:
    total = real(A, A_scale, A_zero_point) + real(B, B_scale, B_zero_point)
    return requantised(total, C_scale, C_zero_point, _kind(C_zero_point, elements))


@straight_through
@microsoft
def QLinearMul(
    A: Tensor,
    A_scale: Tensor,
    A_zero_point: Tensor | None,
    B: Tensor,
    B_scale: Tensor,
    B_zero_point: Tensor | None,
    C_scale: Tensor,
    C_zero_point: Tensor | None = None,
    *,
    elements: Sequence[int],
) -> Tensor:
    product = real(A, A_scale, A_zero_point) * real(B, B_scale, B_zero_point)
    return requantised(product, C_scale, C_zero_point, _kind(C_zero_point, elements))


@hides
@straight_through
@microsoft
def QLinearSigmoid(
    X: Tensor,
    X_scale: Tensor,
    X_zero_point: Tensor | None,
    Y_scale: Tensor,
    Y_zero_point: Tensor | None = None,
    *,
    elements: Sequence[int],
) -> Tensor:
    return requantised(torch.sigmoid(real(X, X_scale, X_zero_point)), Y_scale, Y_zero_point, _kind(Y_zero_point, elements))


@hides
@straight_through
@microsoft
def QLinearLeakyRelu(
    X: Tensor,
    X_scale: Tensor,
    X_zero_point: Tensor | None,
    Y_scale: Tensor,
    Y_zero_point: Tensor | None = None,
    *,
    alpha: float = 0.01,
    elements: Sequence[int],
) -> Tensor:
    leaky = torch.nn.functional.leaky_relu(real(X, X_scale, X_zero_point), alpha)
    return requantised(leaky, Y_scale, Y_zero_point, _kind(Y_zero_point, elements))


@hides
@straight_through
@microsoft
def QLinearSoftmax(
    X: Tensor, X_scale: Tensor, x_zero_point: Tensor | None, y_scale: Tensor, y_zero_point: Tensor, *, axis: int = -1, opset: int
) -> Tensor:
    """`opset`: the version of Softmax that it stands for."""
    x = real(X, X_scale, x_zero_point)
    return requantised(Softmax(x, axis=axis) if opset < 13 else Softmax_13(x, axis=axis), y_scale, y_zero_point, 0)


@straight_through
@microsoft
def QLinearWhere(
    condition: Tensor,
    X: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    Y: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    z_scale: Tensor,
    z_zero_point: Tensor,
) -> Tensor:
    return requantised(torch.where(condition, real(X, x_scale, x_zero_point), real(Y, y_scale, y_zero_point)), z_scale, z_zero_point, 0)


# --------------------------------------------------------------------------------------------------- over several elements


@straight_through
@microsoft
def QLinearAveragePool(
    X: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None,
    y_scale: Tensor,
    y_zero_point: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    channels_last: int = 0,
    count_include_pad: int = 0,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    elements: Sequence[int],
) -> Tensor:
    x = real(X, x_scale, x_zero_point)
    y = AveragePool(
        x.movedim(-1, 1) if channels_last else x,
        kernel_shape=kernel_shape,
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        pads=pads,
        strides=strides,
    )
    return requantised(y.movedim(1, -1) if channels_last else y, y_scale, y_zero_point, _kind(y_zero_point, elements))


@straight_through
@microsoft
def QLinearGlobalAveragePool(
    X: Tensor, x_scale: Tensor, x_zero_point: Tensor, y_scale: Tensor, y_zero_point: Tensor, *, channels_last: int = 0
) -> Tensor:
    axes = tuple(range(1, X.dim() - 1) if channels_last else range(2, X.dim()))
    return requantised(real(X, x_scale, x_zero_point).mean(axes, keepdim=True), y_scale, y_zero_point, 0)


@straight_through
@microsoft
def QLinearReduceMean(
    data: Tensor,
    data_scale: Tensor,
    data_zero_point: Tensor | None,
    reduced_scale: Tensor,
    reduced_zero_point: Tensor | None = None,
    *,
    axes: Sequence[int] | None = None,
    keepdims: int = 1,
    elements: Sequence[int],
) -> Tensor:
    mean = real(data, data_scale, data_zero_point).mean(tuple(axes or range(data.dim())), bool(keepdims))
    return requantised(mean, reduced_scale, reduced_zero_point, _kind(reduced_zero_point, elements))


@straight_through
@microsoft
def QLinearConcat(Y_scale: Tensor, Y_zero_point: Tensor, *inputs: Tensor, axis: int) -> Tensor:
    """`inputs`: of each part its values, scale and zero point."""
    parts = [real(x, scale, zero) for x, scale, zero in zip(inputs[::3], inputs[1::3], inputs[2::3], strict=True)]
    return requantised(torch.cat(parts, axis), Y_scale, Y_zero_point, 0)

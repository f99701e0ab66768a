"""Operators that make values: casts, ranges, constants, random numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from onnx import TensorProto
from torch import Tensor

from service.explain.twin.dtypes import ONNX_BY_TORCH, torch_dtype
from service.explain.twin.graph import Array
from service.explain.twin.operators.casts import cast
from service.explain.twin.registry import operator


@operator
def Cast(input: Tensor, *, to: int, saturate: int = 1, round_mode: str = "up") -> Tensor:
    return cast(input, to, saturate=bool(saturate), round_mode=round_mode)


@operator
def CastLike(input: Tensor, target_type: Tensor, *, saturate: int = 1, round_mode: str = "up", elements: Sequence[int]) -> Tensor:
    to = elements[1] or ONNX_BY_TORCH[target_type.dtype]
    return cast(input, to, saturate=bool(saturate), round_mode=round_mode)


@operator
def BitCast(input: Tensor, *, to: int) -> Tensor:
    return input.view(torch_dtype(to))


@operator
def ConstantOfShape(input: Tensor, *, value: Array | None = None) -> Tensor:
    fill = torch.zeros(()) if value is None else torch.from_numpy(value.copy()).reshape(())
    return fill.expand(tuple(input.tolist())).clone()


@operator
def Range(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    count = max(0, int(torch.ceil((limit - start).double() / delta.double())))
    return start + torch.arange(count, device=start.device).to(start.dtype) * delta


@operator
def EyeLike(input: Tensor, *, dtype: int | None = None, k: int = 0) -> Tensor:
    rows, columns = input.shape
    kind = input.dtype if dtype is None else torch_dtype(dtype)
    diagonal = torch.arange(columns).unsqueeze(0) == torch.arange(rows).unsqueeze(1) + k
    return diagonal.to(device=input.device, dtype=kind)


# Random numbers are drawn anew at each pass, as the specification says; a graph that holds them has no parity. On the host, so that a
# seed means the same on every device.


def _generator(seed: float | None) -> torch.Generator | None:
    return None if seed is None else torch.Generator().manual_seed(int(seed))


@operator
def RandomNormal(
    *, shape: Sequence[int], dtype: int = TensorProto.FLOAT, mean: float = 0.0, scale: float = 1.0, seed: float | None = None
) -> Tensor:
    return mean + scale * torch.randn(tuple(shape), dtype=torch_dtype(dtype), generator=_generator(seed))


@operator
def RandomNormalLike(
    input: Tensor, *, dtype: int | None = None, mean: float = 0.0, scale: float = 1.0, seed: float | None = None
) -> Tensor:
    kind = input.dtype if dtype is None else torch_dtype(dtype)
    return mean + scale * torch.randn(input.shape, dtype=kind, generator=_generator(seed)).to(input.device)


@operator
def RandomUniform(
    *, shape: Sequence[int], dtype: int = TensorProto.FLOAT, high: float = 1.0, low: float = 0.0, seed: float | None = None
) -> Tensor:
    return low + (high - low) * torch.rand(tuple(shape), dtype=torch_dtype(dtype), generator=_generator(seed))


@operator
def RandomUniformLike(input: Tensor, *, dtype: int | None = None, high: float = 1.0, low: float = 0.0, seed: float | None = None) -> Tensor:
    kind = input.dtype if dtype is None else torch_dtype(dtype)
    return low + (high - low) * torch.rand(input.shape, dtype=kind, generator=_generator(seed)).to(input.device)

"""Values put into another element type as the specification of Cast says, where torch's own conversion differs."""

from __future__ import annotations

import torch
from onnx import TensorProto
from torch import Tensor

from service.explain.twin.dtypes import RANGE_BY_ONNX, torch_dtype

# The largest finite value of each eight-bit float, and the value beyond which rounding would give more.
_LARGEST: dict[int, tuple[float, float]] = {
    TensorProto.FLOAT8E4M3FN: (448.0, 464.0),
    TensorProto.FLOAT8E4M3FNUZ: (240.0, 248.0),
    TensorProto.FLOAT8E5M2: (57344.0, 61440.0),
    TensorProto.FLOAT8E5M2FNUZ: (57344.0, 61440.0),
}


def cast(x: Tensor, to: int, *, saturate: bool = True, round_mode: str = "up") -> Tensor:
    """x in the torch type that holds ONNX's type `to`."""
    kind = torch_dtype(to)
    if to in _LARGEST:
        return _to_float8(x.float(), to, saturate)
    if to == TensorProto.FLOAT8E8M0:
        return _power_of_two(x.float(), round_mode).to(kind)
    if to == TensorProto.FLOAT4E2M1:
        return to_float4(x.float())
    if to in RANGE_BY_ONNX:
        low, high = RANGE_BY_ONNX[to]
        size = high - low + 1
        return ((x.long() - low) % size + low).to(kind)  # the low bits
    return x.to(kind)


def _to_float8(x: Tensor, to: int, saturate: bool) -> Tensor:
    largest, beyond = _LARGEST[to]
    if saturate:
        return x.clamp(-largest, largest).to(torch_dtype(to))
    overflow = float("inf") if to == TensorProto.FLOAT8E5M2 else float("nan")
    return torch.where(x.abs() > beyond, torch.copysign(torch.full_like(x, overflow), x), x).to(torch_dtype(to))


def _power_of_two(x: Tensor, round_mode: str) -> Tensor:
    mantissa, exponent = torch.frexp(x)  # x = mantissa * 2 ** exponent, mantissa in [0.5, 1)
    least = {"up": 0.5, "nearest": 0.75, "down": 1.0}[round_mode]
    above = mantissa > least if round_mode == "up" else mantissa >= least
    power = (exponent - 1 + above.int()).clamp(-127, 127)
    power = torch.where(x == 0, -127, power)
    return torch.where(x.isnan(), x, torch.ldexp(torch.ones_like(x), power))


def to_float4(x: Tensor) -> Tensor:
    """Rounded to even onto 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives; what is beyond saturates."""
    size = x.abs().clamp(max=6.0)
    step = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))
    return torch.copysign((torch.round(size / step) * step).clamp(max=6.0), x).nan_to_num(nan=6.0)

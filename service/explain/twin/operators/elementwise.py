"""Arithmetic on single elements, with numpy's broadcasting."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from service.explain.twin.registry import named, operator

for _name, _function in {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Log": torch.log,
    "Neg": torch.neg,
    "Reciprocal": torch.reciprocal,
    "Round": torch.round,  # to even, as the specification says
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
}.items():
    named(_name, _function)


@operator
def Div_7(A: Tensor, B: Tensor) -> Tensor:
    return torch.div(A, B) if A.is_floating_point() else torch.div(A, B, rounding_mode="trunc")


def _until_6(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """Until opset 6 B is broadcast on demand only, its first axis being `axis` of A."""

    def compute(A: Tensor, B: Tensor, *, axis: int | None = None, broadcast: int = 0) -> Tensor:
        behind = 0 if axis is None else A.dim() - axis % A.dim() - B.dim()
        return function(A, B.reshape((*B.shape, *(1,) * behind)))

    return compute


_ARITHMETIC: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"Add": torch.add, "Sub": torch.sub, "Mul": torch.mul}
for _name, _binary in _ARITHMETIC.items():
    named(_name, _until_6(_binary))
    named(f"{_name}_7", _binary)
named("Div", _until_6(Div_7))


@operator
def Mod(A: Tensor, B: Tensor, *, fmod: int = 0) -> Tensor:
    return torch.fmod(A, B) if fmod else torch.remainder(A, B)


@operator
def Pow(X: Tensor, Y: Tensor) -> Tensor:
    return torch.pow(X, Y).to(X.dtype)


@operator
def Max(*data: Tensor) -> Tensor:
    return functools.reduce(torch.maximum, data)


@operator
def Min(*data: Tensor) -> Tensor:
    return functools.reduce(torch.minimum, data)


@operator
def Sum(*data: Tensor) -> Tensor:
    return functools.reduce(torch.add, data)


@operator
def Mean(*data: Tensor) -> Tensor:
    return functools.reduce(torch.add, data) / len(data)


@operator
def Clip(input: Tensor, *, min: float = float("-inf"), max: float = float("inf")) -> Tensor:
    return torch.clamp(input, min, max)


@operator
def Clip_11(input: Tensor, min: Tensor | None = None, max: Tensor | None = None) -> Tensor:
    # The lower bound first: where the bounds cross, the result is the upper one.
    raised = input if min is None else torch.maximum(input, min)
    return raised if max is None else torch.minimum(raised, max)


@operator
def BitShift(X: Tensor, Y: Tensor, *, direction: str) -> Tensor:
    # torch shifts no unsigned types but uint8.
    shift = torch.bitwise_left_shift if direction == "LEFT" else torch.bitwise_right_shift
    return shift(X.long(), Y.long()).to(X.dtype)


@operator
def Where(condition: Tensor, X: Tensor, Y: Tensor) -> Tensor:
    return torch.where(condition, X, Y)


@operator
def Identity(input: Tensor) -> Tensor:
    return input


@operator
def Dropout(data: Tensor, *, ratio: float = 0.5) -> tuple[Tensor, Tensor]:
    return data, torch.ones_like(data, dtype=torch.bool)


@operator
def Dropout_12(
    data: Tensor, ratio: Tensor | None = None, training_mode: Tensor | None = None, *, seed: int | None = None
) -> tuple[Tensor, Tensor]:
    """In inference; a served graph that asks for training mode is refused rather than randomly explained."""
    if training_mode is not None and bool(training_mode) and (ratio is None or float(ratio) > 0):
        raise NotImplementedError("Dropout in training mode")
    return data, torch.ones_like(data, dtype=torch.bool)

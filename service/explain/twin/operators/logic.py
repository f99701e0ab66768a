"""Comparisons, truth values and bits: no gradient passes, by nature."""

from __future__ import annotations

import torch
from torch import Tensor

from service.explain.twin.registry import named, operator

for _name, _function in {
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
    "Not": torch.logical_not,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "IsNaN": torch.isnan,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "BitwiseNot": torch.bitwise_not,
}.items():
    named(_name, _function)


@operator
def Equal(A: Tensor, B: Tensor) -> Tensor:
    return A == B if isinstance(A, Tensor) else torch.from_numpy(A == B)  # the latter: strings, as numpy arrays


@operator
def IsInf(X: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    negative, positive = torch.isneginf(X), torch.isposinf(X)
    return (negative & bool(detect_negative)) | (positive & bool(detect_positive))

"""Sequences of tensors as Python lists, and optional values as None."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from service.explain.twin.registry import operator


@operator
def SequenceConstruct(*inputs: Tensor) -> list[Tensor]:
    return list(inputs)


@operator
def SequenceEmpty(*, dtype: int | None = None) -> list[Tensor]:
    return []


@operator
def SequenceAt(input_sequence: list[Tensor], position: Tensor) -> Tensor:
    return input_sequence[int(position)]


@operator
def SequenceInsert(input_sequence: list[Tensor], tensor: Tensor, position: Tensor | None = None) -> list[Tensor]:
    at = len(input_sequence) if position is None else int(position)
    return [*input_sequence[:at], tensor, *input_sequence[at:]]


@operator
def SequenceErase(input_sequence: list[Tensor], position: Tensor | None = None) -> list[Tensor]:
    at = (-1 if position is None else int(position)) % len(input_sequence)
    return [*input_sequence[:at], *input_sequence[at + 1 :]]


@operator
def SequenceLength(input_sequence: list[Tensor]) -> Tensor:
    return torch.tensor(len(input_sequence), dtype=torch.int64)


@operator
def ConcatFromSequence(input_sequence: list[Tensor], *, axis: int, new_axis: int = 0) -> Tensor:
    return torch.stack(input_sequence, axis) if new_axis else torch.cat(input_sequence, axis)


@operator
def SplitToSequence(input: Tensor, split: Tensor | None = None, *, axis: int = 0, keepdims: int = 1) -> list[Tensor]:
    if split is None:
        return list(torch.split(input, 1, axis)) if keepdims else list(torch.unbind(input, axis))
    return list(torch.split(input, split.tolist() if split.dim() else int(split), axis))


@operator
def Optional(input: Any = None, *, type: Any = None) -> Any:
    return input


@operator
def OptionalGetElement(input: Any) -> Any:
    return input


@operator
def OptionalHasElement(input: Any = None) -> Tensor:
    return torch.tensor(input is not None)

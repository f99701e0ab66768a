"""The gradient of every operator that has a torch form, in float64 against finite differences, or why it has none."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.conformance.cases import Case
from bench.conformance.handmade import HANDMADE
from service.explain.twin import build
from service.explain.twin.registry import OPERATORS

INTEGERS = "computes with integers or truth values only"
CONSTANT = "piecewise constant: its gradient is zero wherever it exists"
INDICES = "gives places, counts or sizes"
THROUGH = "rounds; its gradient is straight-through by design (test_twin_microsoft)"
DRAWN = "draws random numbers and reads no float"

NO_GRADIENT: Mapping[str, str] = {
    **dict.fromkeys(("And", "Or", "Xor", "Not", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"), INTEGERS),
    **dict.fromkeys(("ConvInteger", "MatMulInteger", "Equal", "EyeLike", "BitCast"), INTEGERS),
    **dict.fromkeys(("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "IsInf", "IsNaN", "Hardmax"), CONSTANT),
    **dict.fromkeys(("ArgMax", "ArgMin", "NonZero", "Shape", "Size", "SequenceLength", "OptionalHasElement"), INDICES),
    **dict.fromkeys(("DynamicQuantizeLinear", "QuantizeLinear", "QLinearConv", "QLinearMatMul"), THROUGH),
    **dict.fromkeys(("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"), DRAWN),
    "ConstantOfShape": "its value is an attribute",
    "If": "its branches' gradients; checked in test_twin_module",
    "Optional": "holds a tensor or nothing, as it comes",
    "SequenceEmpty": "holds nothing",
    "SequenceInsert": "a list with one more tensor, each as it came",
    "SimplifiedLayerNormalization": "ONNX Runtime's: checked in test_twin_microsoft within SkipSimplifiedLayerNormalization",
    "Scatter": "deprecated for ScatterElements, which it calls",
    "Upsample": "deprecated for Resize, which it calls",
}
ELSEWHERE = ("com.microsoft",)
"""Domains whose operators test_twin_microsoft checks."""
LARGEST = 300
"""Elements of a model's inputs: a check takes a pass for each."""


@pytest.mark.parametrize("op", sorted(name for domain, name in OPERATORS.entries if domain not in ELSEWHERE))
def test_gradient_is_right_or_excused(op: str, suite_by_operator: Mapping[tuple[str, str], Sequence[Case]]) -> None:
    if op in NO_GRADIENT:
        pytest.skip(NO_GRADIENT[op])
    domain = next(d for d, name in OPERATORS.entries if name == op and d not in ELSEWHERE)
    made = [recipe.case(opset) for opset in (20, 9) for recipe in HANDMADE if recipe.covers(op, opset if not domain else 1)]
    small = (c for c in [*made, *suite_by_operator.get((domain, op), ())] if _size(c.data[0][0]) <= LARGEST)
    assert any(map(_checked, small)), f"write a model of {op} in bench/conformance/handmade.py, or say here why it has no gradient"


def test_nothing_is_excused_that_does_not_exist() -> None:
    assert set(NO_GRADIENT) <= {name for domain, name in OPERATORS.entries}


def _checked(case: Case) -> bool:
    """Whether there was a gradient to check; fails where it is wrong."""
    twin = build(case.model, numpy=False).double()
    if twin.unsupported:
        return False
    flat: list[Tensor] = []
    layout = [_leaves(value, flat) for value in case.data[0][0]]
    if not flat:
        return False

    def call(*leaves: Tensor) -> tuple[Tensor, ...]:
        outputs = twin(*(_filled(value, leaves) for value in layout))
        tensors = [t for o in outputs for t in (o if isinstance(o, list) else [o])]
        return tuple(t for t in tensors if isinstance(t, Tensor) and t.requires_grad)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outputs = call(*flat)
        if not outputs or not all(t.dtype == torch.float64 and bool(t.isfinite().all()) for t in outputs):
            return False
        return torch.autograd.gradcheck(call, flat, atol=1e-4, rtol=1e-3, fast_mode=True)


def _size(value: Any) -> int:
    return sum(map(_size, value)) if isinstance(value, list) else np.size(value)


def _leaves(value: Any, flat: list[Tensor]) -> Any:
    """The value with each float array replaced by its place in `flat`, off the kinks that round numbers lie on."""
    if isinstance(value, list):
        return [_leaves(v, flat) for v in value]
    array = None if value is None else np.asarray(value)
    if array is None or array.dtype.kind != "f" or not array.size:
        return value
    noise = np.random.default_rng(array.size).uniform(1e-3, 2e-3, array.shape)
    flat.append(torch.from_numpy(np.ascontiguousarray(array.astype(np.float64) + noise).reshape(array.shape)).requires_grad_())
    return _Place(len(flat) - 1)


class _Place(int):
    """A place in the list of leaves."""


def _filled(value: Any, leaves: Sequence[Tensor]) -> Any:
    if isinstance(value, list):
        return [_filled(v, leaves) for v in value]
    return leaves[value] if isinstance(value, _Place) else value

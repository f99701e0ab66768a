"""Operators without a torch form, computed in numpy by `onnx.reference`: the model still runs, no gradient passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator

from service.explain.twin.graph import Node


def evaluator(node: Node, opsets: Mapping[str, int]) -> Callable[[Sequence[Any]], tuple[Any, ...]] | None:
    """A function from the node's inputs to its outputs, or None where `onnx.reference` doesn't know the operator."""
    inputs = list(dict.fromkeys(n for n in node.inputs if n))
    outputs = [n for n in node.outputs if n]
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    function = onnx.helper.make_function("twin", "fallback", inputs, outputs, [node.proto], imports)
    try:
        reference = ReferenceEvaluator(function)
    except (NotImplementedError, RuntimeError, ValueError, KeyError, TypeError, AttributeError):
        return None  # what onnx.reference raises for an operator that it doesn't have depends on why it doesn't

    def compute(values: Sequence[Any]) -> tuple[Any, ...]:
        feeds = {name: _to_numpy(value) for name, value in zip(node.inputs, values, strict=True) if name}
        results = iter(reference.run(None, feeds, attributes={}))
        return tuple(_to_torch(next(results)) if name else None for name in node.outputs)

    return compute


def _to_numpy(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy()
    return [_to_numpy(v) for v in value] if isinstance(value, list) else value


def _to_torch(value: Any) -> Any:
    if isinstance(value, list):
        return [_to_torch(v) for v in value]
    array = np.asarray(value)
    if array.dtype.kind in "OUS":
        return array
    try:
        return torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))
    except TypeError:
        return array  # an element type that torch has none for (4-bit, some 8-bit floats) stays numpy

"""Operators without a torch form, computed in numpy by `onnx.reference`: the model still runs, no gradient passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from service.explain.twin.dtypes import as_numpy, as_torch
from service.explain.twin.graph import Kind, Node


def evaluator(node: Node, opsets: Mapping[str, int], known: Mapping[str, Kind]) -> Callable[[Sequence[Any]], tuple[Any, ...]] | None:
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
        feeds = {name: as_numpy(value, known.get(name, Kind()).element) for name, value in zip(node.inputs, values, strict=True) if name}
        results = iter(reference.run(None, feeds, attributes={}))
        outputs = tuple(as_torch(next(results)) if name else None for name in node.outputs)
        device = next((v.device for v in values if isinstance(v, Tensor) and v.device.type != "cpu"), None)
        return outputs if device is None else tuple(o.to(device) if isinstance(o, Tensor) else o for o in outputs)

    return compute

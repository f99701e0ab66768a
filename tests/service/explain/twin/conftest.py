"""One-node ONNX models, and ONNX Runtime as the judge of what they compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import helper

from bench.conformance.cases import Case, suite
from bench.conformance.versions import by_operator

torch.set_num_threads(1)

IR_VERSION = 10


def _shape(name: str, array: np.ndarray) -> list[int | None]:
    """Open for the first input; the others', as the number of sizes or axes, ONNX Runtime may want to know beforehand."""
    return [None] * array.ndim if name == "x0" else list(array.shape)


@pytest.fixture(scope="session")
def one_node() -> Callable[..., onnx.ModelProto]:
    def make(
        op: str,
        inputs: Sequence[Any],
        attributes: Mapping[str, Any] | None = None,
        *,
        opset: int = 20,
        outputs: int = 1,
        constant: Sequence[int] = (),
    ) -> onnx.ModelProto:
        """`inputs` are arrays, None where one is left out; those at the places in `constant` are initializers."""
        names = ["" if array is None else f"x{i}" for i, array in enumerate(inputs)]
        node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], name="the node", **(attributes or {}))
        arrays = {name: array for name, array in zip(names, inputs, strict=True) if name}
        fixed = [onnx.numpy_helper.from_array(np.asarray(arrays[f"x{i}"]), f"x{i}") for i in constant if f"x{i}" in arrays]
        known = {t.name for t in fixed}
        graph = helper.make_graph(
            [node],
            "one",
            [
                helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(np.asarray(a).dtype), _shape(n, np.asarray(a)))
                for n, a in arrays.items()
                if n not in known
            ],
            [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)],
            fixed,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)

    return make


@pytest.fixture(scope="session")
def run_ort() -> Callable[[onnx.ModelProto, Mapping[str, Any]], list[np.ndarray]]:
    def run(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> list[np.ndarray]:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})

    return run


@pytest.fixture(scope="session")
def suite_by_operator() -> Mapping[tuple[str, str], Sequence[Case]]:
    """The onnx package's backend cases by operator; loading them takes some ten seconds."""
    return by_operator(suite())

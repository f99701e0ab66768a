"""Whole graphs, differentiated: paths that part and meet, shapes that are computed, several inputs; against torch's autograd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch.nn import functional

from service.explain.gradient_graph import differentiated
from service.explain.gradient_graph.build import SEED
from service.explain.gradient_graph.rules import Uncovered

Array = NDArray[Any]
node = helper.make_node


def weights(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model(
    nodes: Sequence[NodeProto], inputs: Mapping[str, Sequence[Any]], outputs: Mapping[str, Sequence[Any]], constants: Mapping[str, Array]
) -> ModelProto:
    def values(shapes: Mapping[str, Sequence[Any]]) -> list[Any]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name, shape in shapes.items()]

    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "whole", values(inputs), values(outputs), initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(made: ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))


W1, W2, LAST = weights(4, 4, 3, 3, seed=1), weights(4, 4, 3, 3, seed=2), weights(4, 3, seed=3)


def residual() -> ModelProto:
    """A block whose input goes on beside it, a pool, and a view whose shape the graph computes."""
    nodes = [
        node("Conv", ["x", "w1"], ["a"], pads=[1] * 4),
        node("Relu", ["a"], ["b"]),
        node("Conv", ["b", "w2"], ["c"], pads=[1] * 4),
        node("Add", ["c", "x"], ["d"]),
        node("Relu", ["d"], ["e"]),
        node("GlobalAveragePool", ["e"], ["f"]),
        node("Shape", ["f"], ["s"]),
        node("Slice", ["s", "zero", "two"], ["rows_and_channels"]),
        node("Reshape", ["f", "rows_and_channels"], ["g"]),
        node("MatMul", ["g", "last"], ["y"]),
        node("Softmax", ["y"], ["p"], axis=1),
    ]
    constants = {"w1": W1, "w2": W2, "last": LAST, "zero": np.int64([0]), "two": np.int64([2])}
    return model(nodes, {"x": (4, 5, 5)}, {"p": (3,)}, constants)


def test_a_residual_block_and_what_lies_behind_what_is_explained():
    x, seed = weights(3, 4, 5, 5, seed=4), weights(3, 3, seed=5)
    point = torch.from_numpy(x).requires_grad_()
    inner = functional.conv2d(torch.relu(functional.conv2d(point, torch.from_numpy(W1), padding=1)), torch.from_numpy(W2), padding=1)
    y = torch.relu(inner + point).mean((2, 3)) @ torch.from_numpy(LAST)
    wanted = torch.autograd.grad(y, point, torch.from_numpy(seed))[0].numpy()
    found, shown, p = run(differentiated(residual(), "y", ["x"], ["y", "p"]), {"x": x, SEED: seed})
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(shown, y.detach().numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(p, torch.softmax(y, 1).detach().numpy(), rtol=1e-4, atol=1e-6)


def test_the_model_itself_stays_as_it_is():
    made = residual()
    before = made.SerializeToString()
    differentiated(made, "y", ["x"], ["y"])
    assert made.SerializeToString() == before


def two_inputs() -> ModelProto:
    nodes = [node("Mul", ["a", "b"], ["ab"]), node("Tanh", ["a"], ["t"]), node("Add", ["ab", "t"], ["y"])]
    return model(nodes, {"a": (3,), "b": (3,)}, {"y": (3,)}, {})


def test_several_inputs_one_gradient_each():
    a, b, seed = (weights(2, 3, seed=k) for k in (1, 2, 3))
    in_b, in_a, _ = run(differentiated(two_inputs(), "y", ["b", "a"], ["y"]), {"a": a, "b": b, SEED: seed})
    np.testing.assert_allclose(in_b, seed * a, rtol=1e-5)
    np.testing.assert_allclose(in_a, seed * (b + 1 - np.tanh(a) ** 2), rtol=1e-4, atol=1e-6)


def test_what_is_explained_may_be_the_input_itself():
    a = weights(2, 3)
    found, _ = run(differentiated(model([node("Relu", ["a"], ["y"])], {"a": (3,)}, {"y": (3,)}, {}), "a", ["a"], ["a"]), {"a": a, SEED: a})
    assert np.array_equal(found, a)


def test_an_input_that_nothing_reads_on_the_way():
    nodes = [node("Relu", ["a"], ["y"]), node("Mul", ["b", "y"], ["z"])]
    with pytest.raises(Uncovered, match="reaches b"):
        differentiated(model(nodes, {"a": (3,), "b": (3,)}, {"z": (3,)}, {}), "y", ["a", "b"], ["y"])


def test_a_graph_inside_a_node():
    def branch(name: str) -> Any:
        return helper.make_graph(
            [node("Identity", ["a"], [name])], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)]
        )

    nodes = [node("If", ["yes"], ["y"], then_branch=branch("t"), else_branch=branch("e"))]
    with pytest.raises(Uncovered, match="graph inside"):
        differentiated(model(nodes, {"a": (3,)}, {"y": (3,)}, {"yes": np.asarray(True)}), "y", ["a"], ["y"])


def test_other_numbers_than_float32():
    made = model([node("Relu", ["a"], ["y"])], {"a": (3,)}, {"y": (3,)}, {})
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    with pytest.raises(Uncovered, match="float32"):
        differentiated(made, "y", ["a"], ["y"])


def test_what_is_explained_has_rows_of_one_size():
    made = model([node("Relu", ["a"], ["y"])], {"a": ("length",)}, {"y": ("length",)}, {})
    with pytest.raises(Uncovered, match="vary"):
        differentiated(made, "y", ["a"], ["y"])

"""Each rule against torch's autograd on the same function written in torch, in ONNX Runtime, and what a rule refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor
from torch.nn import functional

from service.explain.gradient_graph import differentiated
from service.explain.gradient_graph.build import SEED
from service.explain.gradient_graph.rules import RULES, Uncovered

Array = NDArray[np.float32]
RNG = np.random.default_rng(0)


def weights(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


@dataclass(frozen=True)
class Given:
    """A model of one operator, `x` its input; the same in torch."""

    operator: str
    row: tuple[int | str, ...]
    torch: Callable[..., Tensor] | None
    """None: refused."""
    constants: Mapping[str, Any] = field(default_factory=dict)
    inputs: Sequence[str] = ("x",)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""
    opset: int = 18
    id: str = ""

    def model(self) -> ModelProto:
        outputs = ["y"]
        node = helper.make_node(self.operator, list(self.inputs), outputs, domain=self.domain, **self.attributes)
        shown = helper.make_node("Mul", ["y", "one"], ["shown"])  # so that the output's shape is inferred
        graph = helper.make_graph(
            [node, shown],
            "one",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *self.row])],
            [helper.make_tensor_value_info("shown", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in {**self.constants, "one": np.float32(1)}.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)


def t(value: Array) -> Tensor:
    return torch.from_numpy(value)


W, B = weights(6, 4, 3, 3), weights(6)
W5 = weights(6, 4, 5, 5)
GROUPED = weights(6, 2, 3, 3)
LINE = weights(5, 4, 4)
UP = weights(4, 5, 3, 3)
SQUARE, MATRIX = weights(12, 12), weights(12, 5)
PER_CHANNEL = weights(1, 4, 1, 1)
SCALE, SHIFT, MEAN, VAR = weights(4), weights(4), weights(4), np.abs(weights(4)) + np.float32(0.1)
MAP = (4, 8, 6)
CONV: dict[str, Any] = {"constants": {"w": W, "b": B}, "inputs": ("x", "w", "b")}


def conv(**options: Any) -> Callable[[Tensor], Tensor]:
    return lambda x: functional.conv2d(x, t(W), t(B), **options)


CASES = [
    Given("Relu", (5,), torch.relu),
    Given("LeakyRelu", (5,), lambda x: functional.leaky_relu(x, 0.2), attributes={"alpha": 0.2}),
    Given("LeakyRelu", (5,), functional.leaky_relu, id="its default"),
    Given("Sigmoid", (5,), torch.sigmoid),
    Given("Tanh", (5,), torch.tanh),
    Given("Neg", (5,), torch.neg),
    Given("Identity", (5,), lambda x: x),
    Given("Dropout", (5,), lambda x: x),
    Given("Add", MAP, lambda x: x + t(PER_CHANNEL), {"c": PER_CHANNEL}, ("x", "c")),
    Given("Add", (5,), lambda x: x + x, inputs=("x", "x"), id="to itself"),
    Given("Sub", MAP, lambda x: t(PER_CHANNEL) - x, {"c": PER_CHANNEL}, ("c", "x"), id="from a constant"),
    Given("Sub", MAP, lambda x: x - t(PER_CHANNEL), {"c": PER_CHANNEL}, ("x", "c")),
    Given("Mul", MAP, lambda x: x * t(PER_CHANNEL), {"c": PER_CHANNEL}, ("c", "x")),
    Given("Mul", (5,), lambda x: x * x, inputs=("x", "x"), id="by itself"),
    Given("Div", MAP, lambda x: x / t(PER_CHANNEL), {"c": PER_CHANNEL}, ("x", "c")),
    Given("Div", MAP, None, {"c": PER_CHANNEL}, ("c", "x"), id="of a constant"),
    Given("Add", (1,), None, {"c": weights(5)}, ("x", "c"), id="broadcast"),
    Given("Add", ("length",), None, {"c": weights(5)}, ("x", "c"), id="maybe broadcast"),
    Given("Gemm", (12,), lambda x: x @ t(MATRIX), {"w": MATRIX}, ("x", "w")),
    Given(
        "Gemm",
        (12,),
        lambda x: 0.5 * x @ t(SQUARE).T + 2,
        {"w": SQUARE, "c": np.float32([4])},
        ("x", "w", "c"),
        {"transB": 1, "alpha": 0.5, "beta": 0.5},
    ),
    Given("MatMul", (3, 12), lambda x: x @ t(MATRIX), {"w": MATRIX}, ("x", "w")),
    Given("MatMul", (3, 12), None, {"w": weights(1, 12, 5)}, ("x", "w"), id="by a stack"),
    Given("MatMul", (3, 12), None, {"w": weights(7, 3)}, ("w", "x"), id="from the left"),
    Given("Conv", MAP, conv(), **CONV),
    Given("Conv", MAP, conv(padding=(1, 2)), **CONV, attributes={"pads": [1, 2, 1, 2]}, id="padded"),
    Given("Conv", MAP, conv(padding=2, dilation=2), **CONV, attributes={"pads": [2] * 4, "dilations": [2, 2]}, id="dilated"),
    Given("Conv", MAP, conv(stride=2, padding=1), **CONV, attributes={"pads": [1] * 4, "strides": [2, 2]}, id="strided"),
    Given("Conv", (4, 9, 7), conv(stride=(2, 3)), **CONV, attributes={"strides": [2, 3]}, id="strides that leave some out"),
    Given(
        "Conv",
        MAP,
        lambda x: functional.conv2d(functional.pad(x, (0, 2, 1, 0)), t(W), t(B)),
        **CONV,
        attributes={"pads": [1, 0, 0, 2]},
        id="padded unevenly",
    ),
    Given("Conv", MAP, conv(padding=4), **CONV, attributes={"pads": [4] * 4}, id="padded beyond the kernel"),
    Given(
        "Conv",
        MAP,
        lambda x: functional.conv2d(x, t(GROUPED), groups=2, padding=1),
        {"w": GROUPED},
        ("x", "w"),
        {"group": 2, "pads": [1] * 4},
        id="in groups",
    ),
    Given(
        "Conv",
        MAP,
        lambda x: functional.conv2d(x, t(GROUPED), groups=2, stride=2),
        {"w": GROUPED},
        ("x", "w"),
        {"group": 2, "strides": [2, 2]},
        id="in groups, strided",
    ),
    Given("Conv", (4, 9), lambda x: functional.conv1d(x, t(LINE), padding=1), {"w": LINE}, ("x", "w"), {"pads": [1, 1]}, id="along a line"),
    Given(
        "Conv",
        (4, 28, 28),
        lambda x: functional.conv2d(x, t(W5), stride=2, padding=2),
        {"w": W5},
        ("x", "w"),
        {"pads": [2] * 4, "strides": [2, 2]},
        id="as in mnist-cnn",
    ),
    Given("Conv", ("c", "h", "w"), None, **CONV, attributes={"strides": [2, 2]}, id="strided over sizes that vary"),
    Given("Conv", MAP, None, **CONV, attributes={"auto_pad": "SAME_UPPER"}, id="auto_pad"),
    Given(
        "ConvTranspose",
        MAP,
        lambda x: functional.conv_transpose2d(x, t(UP), stride=2, padding=1, output_padding=1),
        {"w": UP},
        ("x", "w"),
        {"strides": [2, 2], "pads": [1] * 4, "output_padding": [1, 1]},
    ),
    Given("ConvTranspose", MAP, None, {"w": UP}, ("x", "w"), {"strides": [2, 2], "output_shape": [16, 12]}, id="output_shape"),
    Given(
        "BatchNormalization",
        MAP,
        lambda x: functional.batch_norm(x, t(MEAN), t(VAR), t(SCALE), t(SHIFT), eps=1e-3),
        {"s": SCALE, "b": SHIFT, "m": MEAN, "v": VAR},
        ("x", "s", "b", "m", "v"),
        {"epsilon": 1e-3},
    ),
    Given("MaxPool", (4, 7, 6), lambda x: functional.max_pool2d(x, (2, 3)), attributes={"kernel_shape": [2, 3], "strides": [2, 3]}),
    Given("MaxPool", MAP, None, attributes={"kernel_shape": [3, 3], "strides": [2, 2]}, id="overlapping"),
    Given("MaxPool", MAP, None, attributes={"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1] * 4}, id="padded"),
    Given("GlobalAveragePool", MAP, lambda x: x.mean((2, 3), keepdim=True)),
    Given("ReduceMean", MAP, lambda x: x.mean((2, 3)), {"a": np.int64([2, 3])}, ("x", "a"), {"keepdims": 0}),
    Given("ReduceMean", MAP, lambda x: x.mean(-1, keepdim=True), {"a": np.int64([-1])}, ("x", "a")),
    Given("ReduceMean", MAP, lambda x: x.mean(1, keepdim=True), attributes={"axes": [1]}, opset=13, id="axes as an attribute"),
    Given("ReduceMean", MAP, None, {"a": np.int64([0])}, ("x", "a"), id="over rows"),
    Given("Flatten", MAP, lambda x: x.flatten(1)),
    Given("Reshape", MAP, lambda x: x.reshape(-1, 6, 32), {"s": np.int64([-1, 6, 32])}, ("x", "s")),
    Given("Squeeze", (1, 5), lambda x: x.squeeze(1), {"a": np.int64([1])}, ("x", "a")),
    Given("Unsqueeze", (5,), lambda x: x.unsqueeze(1), {"a": np.int64([1])}, ("x", "a")),
    Given("Transpose", MAP, lambda x: x.permute(0, 2, 3, 1), attributes={"perm": [0, 2, 3, 1]}),
    Given("Concat", (5,), lambda x: torch.cat([x, x * 1, x], 1), inputs=("x", "x", "x"), attributes={"axis": -1}),
    Given("Concat", ("length",), None, inputs=("x", "x"), attributes={"axis": 1}, id="along sizes that vary"),
    Given("Concat", (5,), None, inputs=("x", "x"), attributes={"axis": 0}, id="rows"),
    Given("Erf", (5,), None),
    Given("Gelu", (5,), None, domain="com.microsoft"),
    Given("Relu", (5,), None, opset=12, id="an older opset"),
]


def named(given: Given) -> str:
    return f"{given.operator} {given.id}".strip()


@pytest.mark.parametrize("given", [case for case in CASES if case.torch], ids=named)
@pytest.mark.parametrize("rows", [1, 3])
def test_gradients_are_those_of_autograd(given: Given, rows: int):
    x = np.random.default_rng(1).standard_normal((rows, *given.row)).astype(np.float32)
    point = torch.from_numpy(x).requires_grad_()
    y = given.torch(point)
    seed = np.random.default_rng(2).standard_normal(tuple(y.shape)).astype(np.float32)
    wanted = torch.autograd.grad(y, point, torch.from_numpy(seed))[0].numpy()
    made = differentiated(given.model(), "y", ["x"], ["y"])
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    found, shown = session.run(None, {"x": x, SEED: seed})
    np.testing.assert_allclose(shown, y.detach().numpy(), rtol=1e-4, atol=1e-5)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("given", [case for case in CASES if not case.torch], ids=named)
def test_what_has_no_rule_is_refused(given: Given):
    model = given.model()
    with pytest.raises(Uncovered):
        differentiated(model, "y", ["x"], ["y"])


def test_every_rule_has_a_case():
    assert {case.operator for case in CASES if case.torch} == RULES.keys()


def test_a_relu_at_zero_has_torchs_gradient():
    made = differentiated(Given("Relu", (3,), torch.relu).model(), "y", ["x"], ["y"])
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    found, _ = session.run(None, {"x": np.float32([[-1, 0, 1]]), SEED: np.ones((1, 3), np.float32)})
    assert found.tolist() == [[0, 0, 1]]


def test_of_equal_ones_the_first_gets_a_pools_gradient():
    given = Given("MaxPool", (1, 2, 2), lambda x: functional.max_pool2d(x, 2), attributes={"kernel_shape": [2, 2], "strides": [2, 2]})
    made = differentiated(given.model(), "y", ["x"], ["y"])
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    found, _ = session.run(None, {"x": np.ones((1, 1, 2, 2), np.float32), SEED: np.ones((1, 1, 1, 1), np.float32)})
    assert found.reshape(-1).tolist() == [1, 0, 0, 0]  # as torch's max_pool2d

"""ONNX Runtime's own operators: one-node models, and what its optimiser and quantiser make of networks, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from service.explain.twin import Twin, build

RNG = np.random.default_rng(11)
LEFT_OUT = None


def f(*shape: int, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    return RNG.uniform(low, high, shape).astype(np.float32)


def u(*shape: int) -> np.ndarray:
    return RNG.integers(0, 255, shape).astype(np.uint8)


def s(*shape: int) -> np.ndarray:
    return RNG.integers(-127, 127, shape).astype(np.int8)


def i32(*values: Any) -> np.ndarray:
    return np.asarray(values, np.int32)


SCALE, ZERO, SIGNED = np.float32(0.05), np.uint8(120), np.int8(3)
NONE = np.int8(0)


@dataclass(frozen=True)
class Case:
    op: str
    inputs: list[Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1
    fixed: tuple[int, ...] = ()
    quantum: float = 0.0
    """By how much a rounded result may differ: ONNX Runtime scales in float32."""


def case(op: str, *inputs: Any, outputs: int = 1, fixed: tuple[int, ...] = (), quantum: float = 0.0, **attributes: Any) -> Case:
    return Case(op, list(inputs), attributes, outputs, fixed, quantum)


CONV = (f(2, 3, 6, 6), f(4, 3, 3, 3), f(4))
CASES = [
    *(
        case("FusedConv", *CONV, fixed=(1, 2), activation=a, **({"activation_params": p} if p else {}))
        for a, p in (("Relu", []), ("LeakyRelu", [0.2]), ("Sigmoid", []), ("Tanh", []), ("Clip", [0.0, 0.6]), ("HardSigmoid", [0.3, 0.4]))
    ),
    case("FusedConv", *CONV, f(2, 4, 4, 4), fixed=(1, 2), activation="Relu"),
    case("FusedGemm", f(3, 4), f(4, 5), f(5), fixed=(1, 2), activation="LeakyRelu", activation_alpha=0.1),
    case("FusedMatMul", f(2, 3, 4), f(4, 5), fixed=(1,), alpha=0.5),
    case("FusedMatMul", f(2, 3, 4), f(2, 5, 4), alpha=2.0, transB=1),
    case("FusedMatMul", f(2, 4, 3), f(2, 4, 5), transA=1),
    case("FusedMatMul", f(5, 2, 4), f(2, 4, 3), transBatchA=1),
    case("TransposeMatMul", f(2, 4, 3), f(2, 4, 5), transA=1),
    case("Gelu", f(3, 5)),
    case("BiasGelu", f(3, 5), f(5)),
    case("FastGelu", f(3, 5)),
    case("FastGelu", f(3, 5), f(5)),
    case("QuickGelu", f(3, 5), alpha=1.5),
    case("SkipLayerNormalization", f(2, 3, 8), f(2, 3, 8), f(8), f(8), fixed=(2, 3), epsilon=1e-5),
    case("SkipLayerNormalization", f(2, 3, 8), f(2, 3, 8), f(8), f(8), f(8), fixed=(2, 3, 4)),
    case("SkipSimplifiedLayerNormalization", f(2, 3, 8), f(2, 3, 8), f(8), fixed=(2,)),
    case(
        "EmbedLayerNormalization",
        *(RNG.integers(0, 9, (2, 4)).astype(np.int32), RNG.integers(0, 2, (2, 4)).astype(np.int32)),
        *(f(9, 8), f(6, 8), f(2, 8), f(8), f(8), np.asarray([[1, 1, 1, 0], [1, 1, 0, 0]], np.int32)),
        outputs=2,
        fixed=(2, 3, 4, 5, 6),
    ),
    case("Attention", f(2, 4, 8), f(8, 24), f(24), fixed=(1, 2), num_heads=2),
    case("Attention", f(2, 4, 8), f(8, 24), f(24), i32(4, 2), fixed=(1, 2), num_heads=2),
    case("Attention", f(2, 4, 8), f(8, 24), f(24), np.asarray([[1, 1, 1, 0], [1, 0, 1, 1]], np.int32), fixed=(1, 2), num_heads=2),
    case("Attention", f(2, 4, 8), f(8, 24), f(24), fixed=(1, 2), num_heads=2, unidirectional=1),
    case("Attention", f(2, 4, 8), f(8, 24), f(24), LEFT_OUT, f(2, 2, 2, 3, 4), fixed=(1, 2), outputs=2, num_heads=2, unidirectional=1),
    case("Attention", f(2, 4, 8), f(8, 24), f(24), LEFT_OUT, LEFT_OUT, f(2, 2, 4, 4), fixed=(1, 2), num_heads=2),
    case("MultiHeadAttention", f(2, 4, 8), f(2, 5, 8), f(2, 5, 8), num_heads=2),
    case("MultiHeadAttention", f(2, 4, 8), f(2, 5, 8), f(2, 5, 8), f(24), num_heads=2, scale=0.3),
    case(
        "MultiHeadAttention",
        *(f(2, 4, 8), f(2, 5, 8), f(2, 5, 8), LEFT_OUT, np.asarray([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)),
        num_heads=2,
    ),
    case("RotaryEmbedding", f(2, 4, 8), np.asarray([[0, 1, 2, 3], [1, 2, 3, 4]], np.int64), f(6, 2), f(6, 2)),
    case("RotaryEmbedding", f(2, 2, 4, 8), np.asarray([1], np.int64), f(6, 4), f(6, 4), interleaved=1),
    case("MatMulNBits", f(3, 32), u(6, 2, 8), f(12), K=32, N=6, bits=4, block_size=16, fixed=(1, 2)),
    case("MatMulNBits", f(3, 32), u(6, 2, 8), f(12), u(6), K=32, N=6, bits=4, block_size=16, fixed=(1, 2, 3)),
    # quantised
    case("QLinearAdd", u(2, 5), SCALE, ZERO, u(2, 5), np.float32(0.03), ZERO, np.float32(0.08), ZERO, quantum=1),
    case("QLinearMul", s(2, 5), SCALE, SIGNED, s(2, 5), SCALE, SIGNED, np.float32(0.2), SIGNED, quantum=1),
    case("QLinearSigmoid", u(2, 5), SCALE, ZERO, np.float32(1 / 256), np.uint8(0), quantum=1, fixed=(1, 2, 3, 4)),
    case("QLinearLeakyRelu", u(2, 5), SCALE, ZERO, np.float32(0.03), ZERO, alpha=0.2, quantum=1, fixed=(1, 2, 3, 4)),
    case("QLinearSoftmax", u(2, 5), SCALE, ZERO, np.float32(1 / 256), np.uint8(0), axis=-1, opset=13, quantum=1, fixed=(1, 2, 3, 4)),
    case("QLinearAveragePool", u(2, 3, 6, 6), SCALE, ZERO, SCALE, ZERO, kernel_shape=[2, 2], strides=[2, 2], quantum=1),
    case("QLinearGlobalAveragePool", u(2, 3, 6, 6), SCALE, ZERO, SCALE, ZERO, channels_last=0, quantum=1),
    case("QLinearConcat", SCALE, ZERO, u(2, 5), SCALE, ZERO, u(2, 3), np.float32(0.03), ZERO, axis=1, quantum=1, fixed=(0, 1, 3, 4, 6, 7)),
    case("QLinearWhere", f(2, 5) > 0, u(2, 5), SCALE, ZERO, u(2, 5), SCALE, ZERO, SCALE, ZERO, quantum=1, fixed=(2, 3, 5, 6, 7, 8)),
    case("QGemm", u(3, 4), SCALE, ZERO, s(4, 5), SCALE, NONE, LEFT_OUT, np.float32(0.5), ZERO, quantum=1, fixed=(1, 2, 3, 4, 5, 7, 8)),
    case("QGemm", u(3, 4), SCALE, ZERO, s(4, 5), SCALE, np.int8(0), i32(4, 5, 6, 7, 8), fixed=(1, 2, 3, 4, 5, 6)),
    case("MatMulIntegerToFloat", u(3, 4), s(4, 5), SCALE, f(5, low=0.01, high=0.1), ZERO, fixed=(1, 3)),
    case("DynamicQuantizeMatMul", f(3, 4), s(4, 5), f(1, low=0.01, high=0.1), fixed=(1, 2)),
    case("QAttention", u(2, 4, 8), s(8, 24), f(24), SCALE, SCALE, LEFT_OUT, ZERO, np.int8(0), fixed=(1, 2, 3, 4, 6, 7), num_heads=2),
    case("NhwcMaxPool", u(2, 6, 6, 3), kernel_shape=[2, 2], strides=[2, 2]),
]


def model_of(case: Case, fixed: tuple[int, ...]) -> onnx.ModelProto:
    names = ["" if array is None else f"x{k}" for k, array in enumerate(case.inputs)]
    node = helper.make_node(case.op, names, [f"y{k}" for k in range(case.outputs)], "the node", domain="com.microsoft", **case.attributes)
    arrays = {name: np.asarray(array) for name, array in zip(names, case.inputs, strict=True) if name}
    constants = [f"x{k}" for k in fixed if f"x{k}" in arrays]
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), [None] * a.ndim if n == "x0" else list(a.shape))
            for n, a in arrays.items()
            if n not in constants
        ],
        [onnx.ValueInfoProto(name=f"y{k}") for k in range(case.outputs)],
        [numpy_helper.from_array(arrays[n], n) for n in constants],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


@pytest.mark.parametrize("case", [pytest.param(c, id=f"{c.op}-{k}") for k, c in enumerate(CASES)])
def test_agrees_with_onnx_runtime(case: Case, run_ort: Callable[..., list[np.ndarray]]) -> None:
    model = model_of(case, case.fixed)
    feeds = {f"x{k}": np.asarray(a) for k, a in enumerate(case.inputs) if a is not None}
    expected = run_ort(model, feeds)
    twin = build(model, numpy=False)
    assert not twin.unsupported
    got = twin(*(feeds[name] for name in twin.input_names))
    for mine, theirs in zip(got, expected, strict=True):
        assert mine.numpy().dtype == theirs.dtype
        np.testing.assert_allclose(mine.numpy().astype(np.float64), theirs.astype(np.float64), rtol=1e-4, atol=max(case.quantum, 2e-5))


FLOATS = [c for c in CASES if isinstance(c.inputs[0], np.ndarray) and c.inputs[0].dtype == np.float32]


@pytest.mark.parametrize("case", [pytest.param(c, id=f"{c.op}-{k}") for k, c in enumerate(FLOATS)])
def test_gradient_agrees_with_finite_differences(case: Case) -> None:
    twin = build(model_of(case, case.fixed))
    if twin.straight_through:
        pytest.skip("its gradient is that of the operator without rounding, by design")
    twin = twin.double()
    arrays = [np.asarray(case.inputs[int(name[1:])]) for name in twin.input_names]
    tensors = [
        torch.from_numpy(a.copy()).double().requires_grad_() if a.dtype == np.float32 else torch.from_numpy(a.copy()) for a in arrays
    ]
    assert torch.autograd.gradcheck(lambda *xs: tuple(o for o in twin(*xs) if o.requires_grad), tensors, atol=1e-5, fast_mode=True)


def test_fused_activations_are_exact_modules_again() -> None:
    twin = build(model_of(CASES[0], (1, 2)))
    assert {name: type(m) for name, m in twin.modules_by_node.items()} == {
        "the node": torch.nn.Conv2d,
        "the node/Relu": torch.nn.ReLU,
    }
    assert not twin.hidden


def test_a_softmax_inside_a_fused_operator_is_named_as_hidden() -> None:
    attention = next(c for c in CASES if c.op == "Attention")
    assert build(model_of(attention, (1, 2))).hidden == ("the node",)


def test_a_quantised_operator_passes_its_gradient_straight_through() -> None:
    """x -> quantise -> dequantise is x but for the rounding; its gradient is 1 within the range and 0 beyond it."""
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]), helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", 1, ["n"])],
        [value("y", 1, ["n"])],
        [numpy_helper.from_array(np.float32(0.5), "s"), numpy_helper.from_array(np.uint8(128), "z")],
    )
    twin: Twin = build(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9))
    assert twin.straight_through == ("QuantizeLinear",)
    x = torch.tensor([0.3, -7.1, 100.0, -80.0], requires_grad=True)
    (y,) = twin(x)
    assert y.tolist() == [0.5, -7.0, 63.5, -64.0]
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [1, 1, 0, 0]
    assert twin(x.detach())[0].tolist() == y.tolist()

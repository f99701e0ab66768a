"""The twin as a whole: names, modules, cuts, folding, control flow, what isn't supported."""

from __future__ import annotations

import copy
import time

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto as T
from onnx import helper, numpy_helper
from torch import nn

from service.explain.served import Served
from service.explain.twin import BadGraph, UnsupportedOperators, build, fold

FLOAT = T.FLOAT


def model_of(nodes, inputs, outputs, constants=None, opset: int = 20, domains=()) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).uniform(-1, 1, shape).astype(np.float32)


@pytest.fixture
def network() -> onnx.ModelProto:
    """Two of its nodes' names are one when made legal, one name is empty, one is a method of modules."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="/stem/conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "s", "o", "m", "v"], ["n"], name="/stem/norm"),
        helper.make_node("Relu", ["n"], ["r"], name="act/one"),
        helper.make_node("Relu", ["r"], ["r2"], name="act.one"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"], name="forward"),
        helper.make_node("Gemm", ["f", "g"], ["y"], name="head"),
    ]
    constants = {
        "w": weights(4, 2, 3, 3),
        "b": weights(4),
        "s": weights(4),
        "o": weights(4),
        "m": weights(4),
        "v": weights(4) ** 2 + 0.1,
        "g": weights(4, 3),
    }
    return model_of(nodes, [("x", FLOAT, ["n", 2, 6, 6])], [("y", FLOAT, ["n", 3])], constants)


def test_modules_are_exact_fresh_and_named_as_their_node(network) -> None:
    twin = build(network)
    found = {name: type(module) for name, module in twin.modules_by_node.items()}
    assert found["/stem/conv"] is nn.Conv2d
    assert found["/stem/norm"] is nn.BatchNorm2d
    assert found["head"] is nn.Linear
    assert list(found.values()).count(nn.ReLU) == 2  # act/one and act.one
    assert list(found.values()).count(nn.AdaptiveAvgPool2d) == 1
    assert len(found) == 6  # Flatten is a function
    assert not any(p.requires_grad for p in twin.parameters())
    assert not twin.training


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("form", [lambda t: t, fold, copy.deepcopy], ids=["faithful", "folded", "copied"])
def test_every_form_agrees_with_onnx_runtime(network, rows, form, run_ort) -> None:
    x = np.random.default_rng(1).uniform(-2, 2, (rows, 2, 6, 6)).astype(np.float32)
    (expected,) = run_ort(network, {"x": x})
    (got,) = form(build(network))(x)
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-5)


def test_folding_drops_the_norm_and_leaves_the_twin_alone(network) -> None:
    twin = build(network)
    before = {name: tensor.clone() for name, tensor in twin.state_dict().items()}
    folded = fold(twin)
    assert nn.BatchNorm2d not in {type(m) for m in folded.modules_by_node.values()}
    assert folded.modules_by_node["/stem/conv"].convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(before[name], tensor) for name, tensor in twin.state_dict().items())


def test_gradient_of_both_forms_is_the_same(network) -> None:
    x = torch.rand(2, 2, 6, 6)
    gradients = []
    for form in (build(network), fold(build(network))):
        leaf = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad(form(leaf)[0].sum(), leaf)[0])
    torch.testing.assert_close(*gradients)


@pytest.fixture
def embedding() -> onnx.ModelProto:
    """tokens -> embedded; the rest also reads the tokens' shape and a mask of them."""
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["embedded"], name="embed"),
        helper.make_node("Equal", ["tokens", "pad"], ["is_pad"]),
        helper.make_node("Unsqueeze", ["is_pad", "last"], ["mask"]),
        helper.make_node("Where", ["mask", "zero", "embedded"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["summed"], keepdims=0),
        helper.make_node("Tanh", ["summed"], ["y"]),
    ]
    constants = {
        "table": weights(9, 4),
        "pad": np.int64(0),
        "last": np.asarray([-1], np.int64),
        "one": np.asarray([1], np.int64),
        "zero": np.float32(0),
    }
    return model_of(nodes, [("tokens", T.INT64, ["n", "t"])], [("y", FLOAT, ["n", 4])], constants)


def test_a_cut_computes_what_the_whole_computes(embedding) -> None:
    twin = build(embedding)
    assert isinstance(twin.modules_by_node["embed"], nn.Embedding)
    cut = twin.cut({"tokens": "embedded"})
    assert cut.head.input_names == ("tokens",)
    assert cut.tail.input_names == ("embedded", "tokens")
    assert cut.also == ("tokens",)
    tokens = np.asarray([[3, 0, 8], [1, 2, 0]])
    (embedded,) = cut.head(tokens)
    leaf = embedded.detach().requires_grad_()
    (y,) = cut.tail(leaf, tokens)
    torch.testing.assert_close(y.detach(), twin(tokens)[0])
    gradient = torch.autograd.grad(y.sum(), leaf)[0]
    assert gradient[0, 0].all()
    assert not gradient[0, 1].any()  # masked: a pad token


def test_intermediate_values_are_forgotten_after_their_last_use(network) -> None:
    program = build(network)._program
    forgotten = [name for names in program.last_use for name in names]
    assert set(forgotten) >= {"x", "c", "n", "r", "r2", "p", "f"}
    assert "y" not in forgotten


def test_constant_parts_are_computed_once() -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["wt"]),
        helper.make_node("Shape", ["w"], ["s"]),
        helper.make_node("Cast", ["s"], ["sf"], to=FLOAT),
        helper.make_node("MatMul", ["x", "wt"], ["y"], name="product"),
        helper.make_node("Add", ["y", "sf"], ["z"]),
    ]
    twin = build(model_of(nodes, [("x", FLOAT, ["n", 3])], [("z", FLOAT, ["n", 2])], {"w": weights(2, 3)}))
    assert isinstance(twin.modules_by_node["product"], nn.Linear)
    assert [s.node.op_type for s in twin._program.steps] == ["MatMul", "Add"]


def test_all_unsupported_operators_are_reported_together() -> None:
    nodes = [
        helper.make_node("Mystery", ["x"], ["a"], domain="some.where"),
        helper.make_node("Riddle", ["a"], ["b"], domain="some.where"),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    twin = build(model_of(nodes, [("x", FLOAT, ["n"])], [("y", FLOAT, ["n"])], domains=("some.where",)))
    assert twin.unsupported == ("some.where.Mystery", "some.where.Riddle")
    with pytest.raises(UnsupportedOperators, match=r"some.where.Mystery, some.where.Riddle"):
        twin(np.zeros(1, np.float32))
    (y,) = twin.segment(("b",), ("y",))(np.asarray([-1, 2], np.float32))  # the part without them runs
    assert y.tolist() == [0, 2]


def test_operators_in_numpy_run_and_are_named_with_the_inputs_they_block(run_ort) -> None:
    nodes = [
        helper.make_node("Binarizer", ["x"], ["ones"], name="above", domain="ai.onnx.ml", threshold=0.1),
        helper.make_node("Add", ["ones", "z"], ["y"]),
    ]
    model = model_of(nodes, [("x", FLOAT, ["n", 4]), ("z", FLOAT, ["n", 4])], [("y", FLOAT, ["n", 4])], domains=("ai.onnx.ml",))
    twin = build(model)
    assert [(gap.node, gap.operator, gap.inputs) for gap in twin.gradient_gaps] == [("above", "ai.onnx.ml.Binarizer", ("x",))]
    assert build(model, numpy=False).unsupported == ("ai.onnx.ml.Binarizer",)
    x, z = weights(3, 4), weights(3, 4)
    (expected,) = run_ort(model, {"x": x, "z": z})
    np.testing.assert_allclose(twin(x, z)[0].numpy(), expected, atol=1e-6)


def test_functions_of_the_standard_are_spelled_out(run_ort) -> None:
    """CenterCropPad and HannWindow have no torch form, but a function in the standard, its attributes' defaults included."""
    nodes = [
        helper.make_node("HannWindow", ["length"], ["window"], name="hann"),
        helper.make_node("CenterCropPad", ["x", "size"], ["cropped"], name="crop", axes=[1]),
        helper.make_node("Mul", ["cropped", "window"], ["y"]),
    ]
    constants = {"size": np.asarray([4], np.int64), "length": np.int64(4)}
    model = model_of(nodes, [("x", FLOAT, ["n", 6])], [("y", FLOAT, ["n", 4])], constants)
    twin = build(model, numpy=False)
    assert not twin.gradient_gaps
    x = weights(3, 6)
    np.testing.assert_allclose(twin(x)[0].numpy(), run_ort(model, {"x": x})[0], atol=1e-6)


def test_if_reads_the_graph_around_it(run_ort) -> None:
    def branch(name: str, op: str) -> onnx.GraphProto:
        return helper.make_graph([helper.make_node(op, ["x", "k"], [name])], name, [], [helper.make_tensor_value_info(name, FLOAT, ["n"])])

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], then_branch=branch("t", "Mul"), else_branch=branch("e", "Add")),
    ]
    model = model_of(nodes, [("x", FLOAT, ["n"])], [("y", FLOAT, ["n"])], {"zero": np.float32(0), "k": np.float32(3)})
    twin = build(model)
    for x in (np.asarray([1, 2], np.float32), np.asarray([-1, -2], np.float32)):
        np.testing.assert_allclose(twin(x)[0].numpy(), run_ort(model, {"x": x})[0])


def test_loop_carries_and_scans(run_ort) -> None:
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["state", "factor"], ["new"]),
            helper.make_node("Relu", ["new"], ["seen"]),
            helper.make_node("Identity", ["going"], ["go"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", T.INT64, []),
            helper.make_tensor_value_info("going", T.BOOL, []),
            helper.make_tensor_value_info("state", FLOAT, ["n"]),
        ],
        [
            helper.make_tensor_value_info("go", T.BOOL, []),
            helper.make_tensor_value_info("new", FLOAT, ["n"]),
            helper.make_tensor_value_info("seen", FLOAT, ["n"]),
        ],
    )
    nodes = [helper.make_node("Loop", ["trips", "", "x"], ["last", "all"], body=body)]
    model = model_of(
        nodes,
        [("x", FLOAT, ["n"]), ("trips", T.INT64, [])],
        [("last", FLOAT, ["n"]), ("all", FLOAT, ["t", "n"])],
        {"factor": np.float32(-0.5)},
    )
    twin = build(model)
    assert twin.reused
    x = np.asarray([1, -2, 3], np.float32)
    for trips in (1, 4):
        feeds = {"x": x, "trips": np.asarray(trips)}
        for mine, theirs in zip(twin(*(feeds[n] for n in twin.input_names)), run_ort(model, feeds), strict=True):
            np.testing.assert_allclose(mine.numpy(), theirs)
    leaf = torch.from_numpy(x).requires_grad_()
    last, _ = twin(leaf, np.asarray(2))
    assert torch.autograd.grad(last.sum(), leaf)[0].tolist() == [0.25] * 3


def test_scan_agrees_with_onnx_runtime(run_ort) -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "e"], ["s2"]), helper.make_node("Tanh", ["s2"], ["o"])],
        "body",
        [helper.make_tensor_value_info("s", FLOAT, [2]), helper.make_tensor_value_info("e", FLOAT, [2])],
        [helper.make_tensor_value_info("s2", FLOAT, [2]), helper.make_tensor_value_info("o", FLOAT, [2])],
    )
    nodes = [helper.make_node("Scan", ["start", "x"], ["end", "y"], body=body, num_scan_inputs=1, scan_input_directions=[1])]
    model = model_of(nodes, [("start", FLOAT, [2]), ("x", FLOAT, ["t", 2])], [("end", FLOAT, [2]), ("y", FLOAT, ["t", 2])])
    start, x = weights(2), weights(4, 2)
    for mine, theirs in zip(build(model)(start, x), run_ort(model, {"start": start, "x": x}), strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs, atol=1e-6)


def test_local_functions_are_inlined(run_ort) -> None:
    function = helper.make_function(
        "local", "Double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 20)]
    )
    model = model_of(
        [helper.make_node("Double", ["x"], ["y"], domain="local")], [("x", FLOAT, ["n"])], [("y", FLOAT, ["n"])], domains=("local",)
    )
    model.functions.append(function)
    assert build(model)(np.asarray([1, 2], np.float32))[0].tolist() == [2, 4]


def test_an_attribute_that_an_operator_does_not_know_makes_it_unsupported() -> None:
    for node in (helper.make_node("LeakyRelu", ["x"], ["y"], steepness=2.0), helper.make_node("Abs", ["x"], ["y"], steepness=2.0)):
        twin = build(model_of([node], [("x", FLOAT, ["n"])], [("y", FLOAT, ["n"])]))
        assert len(twin.unsupported) == 1
        assert "steepness" in twin.unsupported[0]


def test_a_constant_beyond_memory_makes_its_operator_unsupported() -> None:
    node = helper.make_node("ConstantOfShape", ["size"], ["y"])
    twin = build(model_of([node], [("x", FLOAT, ["n"])], [("y", FLOAT, ["n"])], {"size": np.asarray([2**50], np.int64)}))
    assert twin.unsupported[0].startswith("ConstantOfShape (")


BAD = {
    "cycle": ([("Add", "x b", "a"), ("Relu", "a", "b"), ("Relu", "b", "y")], "cycle"),
    "missing tensor": ([("Add", "x nowhere", "y")], "'nowhere', which nothing in the graph makes"),
    "missing output": ([("Relu", "x", "z")], "makes its output 'y'"),
    "tensor made twice": ([("Relu", "x", "y"), ("Neg", "x", "y")], "'y' is made twice"),
}


@pytest.mark.parametrize(("nodes", "words"), BAD.values(), ids=BAD)
def test_what_is_no_graph_is_refused_in_words(nodes, words) -> None:
    made = [helper.make_node(op, inputs.split(), [output]) for op, inputs, output in nodes]
    with pytest.raises(BadGraph, match=words):
        build(model_of(made, [("x", FLOAT, ["n"])], [("y", FLOAT, ["n"])]))


def test_nodes_out_of_order_are_put_in_order() -> None:
    nodes = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Neg", ["x"], ["a"])]
    twin = build(model_of(nodes, [("x", FLOAT, ["n"])], [("y", FLOAT, ["n"])]))
    assert twin(np.asarray([1, -2], np.float32))[0].tolist() == [0, 2]


def test_a_long_chain_is_built_run_and_differentiated() -> None:
    count = 10_000
    names = ["x", *(f"t{k}" for k in range(count - 1)), "y"]
    nodes = [helper.make_node("Neg" if k % 2 else "Relu", [names[k]], [names[k + 1]]) for k in range(count)]
    began = time.monotonic()
    twin = build(model_of(nodes, [("x", FLOAT, ["n"])], [("y", FLOAT, ["n"])]))
    leaf = torch.ones(2, requires_grad=True)
    assert torch.autograd.grad(twin(leaf)[0].sum(), leaf)[0].shape == (2,)
    assert twin.gradient_gaps == ()
    assert time.monotonic() - began < 60  # linear: some three seconds; quadratic would take minutes


def test_wrong_number_of_inputs_is_an_error(network) -> None:
    with pytest.raises(TypeError, match="expected 1 inputs"):
        build(network)(np.zeros(1), np.zeros(1))


def test_a_cut_before_control_flow_computes_what_the_whole_computes() -> None:
    """Branches read the cut tensor and a constant of the graph around them; in ONNX Runtime as in the twin."""

    def branch(name: str, op: str) -> onnx.GraphProto:
        made = helper.make_tensor_value_info(name, FLOAT, None)
        return helper.make_graph([helper.make_node(op, ["embedded", "k"], [name])], name, [], [made])

    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["embedded"]),
        helper.make_node("Cast", ["ids"], ["numbers"], to=FLOAT),
        helper.make_node("ReduceSum", ["numbers"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["chosen"], then_branch=branch("t", "Mul"), else_branch=branch("e", "Add")),
        helper.make_node("Tanh", ["chosen"], ["y"]),
    ]
    constants = {"table": weights(5, 3), "zero": np.float32(0), "k": np.float32(2)}
    model = model_of(nodes, [("ids", T.INT64, ["n", "t"])], [("y", FLOAT, ["n", "t", 3])], constants)
    served, cut = Served(model, ["embedded"], ["ids"]), build(model).cut({"ids": "embedded"})
    ids = np.asarray([[1, 2, 3], [0, 1, 2]])
    ran = served.run({"ids": ids})
    np.testing.assert_allclose(served.tail({"embedded": ran["embedded"], "ids": ids})["y"], ran["y"])
    leaf = torch.from_numpy(ran["embedded"]).requires_grad_()
    (y,) = cut.tail(leaf, ids)
    np.testing.assert_allclose(y.detach().numpy(), ran["y"], atol=1e-6)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), leaf)[0], 2 * (1 - y.detach() ** 2))

"""Parity's formula and limits, and what is found out about a model when it is loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper

from service.explain.cancel import Token
from service.explain.explainer import explain
from service.explain.loading import load
from service.explain.memory import Saved, rows_within
from service.explain.methods import resolve
from service.explain.parity import limit, parity_error
from service.manifest import MANIFEST_FILE
from service.repository.bundle import Location, find_bundles, read_bundle

MODELS = Path(__file__).parents[3] / "models"


@pytest.mark.parametrize(
    ("twin", "served", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.5], [1.0, 2.0], 0.25),  # relative to the largest
        ([0.1, 0.2], [0.1, 0.25], 0.05),  # but at least to 1
        ([np.nan, 1.0], [np.nan, 1.0], 0.0),
        ([np.nan, 1.0], [0.0, 1.0], np.inf),
        ([np.inf, 1.0], [np.inf, 1.0], 0.0),
        ([1.0], [1.0, 1.0], np.inf),
    ],
)
def test_the_formula_is_the_contracts(twin, served, expected) -> None:
    assert parity_error({"y": np.asarray(twin)}, {"y": np.asarray(served)}) == pytest.approx(expected)


def test_the_limit_follows_the_precision() -> None:
    def model(kind: int) -> onnx.ModelProto:
        value = helper.make_tensor_value_info
        return helper.make_model(
            helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value("x", kind, [1])], [value("y", kind, [1])])
        )

    assert limit(model(T.FLOAT)) == 1e-4
    assert limit(model(T.FLOAT16)) == 5e-3


def quantised_model(scale: float, zero: np.ndarray) -> onnx.ModelProto:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Relu", ["d"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    constants = [onnx.numpy_helper.from_array(np.float32(scale), "s"), onnx.numpy_helper.from_array(zero, "z")]
    return helper.make_model(helper.make_graph(nodes, "g", [value("x", T.FLOAT, [1])], [value("y", T.FLOAT, [1])], constants))


def test_the_limit_of_a_quantised_model_is_a_quantum() -> None:
    small = quantised_model(1 / 256, np.asarray(0, np.uint8))  # outputs within 0 .. 1: parity's unit is 1
    assert limit(small) == pytest.approx(1 / 256)
    large = quantised_model(0.5, np.asarray(0, np.int8))  # within -64 .. 63.5
    assert 0.5 / 64 <= limit(large) <= 4 * 0.5 / 64


def test_the_limit_of_a_dynamically_quantised_model_is_a_quantum_of_its_range() -> None:
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [value("x", T.FLOAT, [3])], [value("y", T.FLOAT, [3])]))
    assert limit(model) == pytest.approx(1 / 127)


def test_every_small_bundle_has_a_twin(subjects) -> None:
    for name, subject in subjects.items():
        status = subject.status
        assert status.usable, (name, status)
        assert status.parity_error < 1e-5, name
        assert not status.no_gradient, name


BUNDLES = [pytest.param(location, id=f"{location.name}-{location.version}") for location in find_bundles(MODELS)] if MODELS.is_dir() else []


@pytest.mark.parametrize("location", BUNDLES)
def test_every_served_bundle_has_a_twin(location: Location) -> None:
    if not (location.folder / MANIFEST_FILE).is_file():
        pytest.skip("no manifest")
    status = load(read_bundle(location)).status
    assert status.usable, status
    assert status.parity_error is not None
    assert status.parity_error <= 1e-4
    assert not status.gradient_gaps


def bundle_of(tmp_path: Path, nodes, inputs, outputs, constants=()) -> Location:
    folder = tmp_path / "bare" / "1"
    folder.mkdir(parents=True)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*i) for i in inputs],
        [helper.make_tensor_value_info(*o) for o in outputs],
        list(constants),
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / "model.onnx")
    return Location("bare", 1, folder)


def test_a_bare_model_is_a_subject_too(tmp_path) -> None:
    at = bundle_of(tmp_path, [helper.make_node("Tanh", ["x"], ["y"])], [("x", T.FLOAT, ["n", 3])], [("y", T.FLOAT, ["n", 3])])
    subject = load(read_bundle(at))
    assert subject.status.usable
    assert subject.manifest.name == "bare"


def test_a_fixed_batch_is_tried_batch_by_batch(tmp_path) -> None:
    at = bundle_of(tmp_path, [helper.make_node("Tanh", ["x"], ["y"])], [("x", T.FLOAT, [1, 3])], [("y", T.FLOAT, [1, 3])])
    assert load(read_bundle(at)).status.usable


@pytest.mark.parametrize("baked", ["Gather", "Squeeze"])
def test_a_batch_of_one_that_can_not_be_freed_is_explained_row_by_row(tmp_path, baked: str) -> None:
    """y = (sum of x squared) of the one row: F(x) - F(0) = sum x^2, whose integrated gradients are x^2."""
    place = helper.make_tensor("place", T.INT64, [] if baked == "Gather" else [1], [0])
    first = helper.make_node(baked, ["x", "place"], ["row"], **({"axis": 0} if baked == "Gather" else {}))
    nodes = [first, helper.make_node("Mul", ["row", "row"], ["s"]), helper.make_node("Unsqueeze", ["s", "axes"], ["y"])]
    constants = [place, helper.make_tensor("axes", T.INT64, [1], [0])]
    at = bundle_of(tmp_path, nodes, [("x", T.FLOAT, [1, 3])], [("y", T.FLOAT, [1, 3])], constants)
    subject = load(read_bundle(at))
    assert subject.status.usable, subject.status.reason
    assert subject.status.one_row
    assert "one row at a time" in subject.status.refused["deep_lift"]
    x = np.asarray([[1.0, -2.0, 3.0]], np.float32)
    for method in ("integrated_gradients", "smoothgrad", "occlusion", "shapley_value_sampling"):
        request = resolve(subject.manifest, {"method": method, "target": [1]})
        (found,) = explain(subject, request, {"x": x}, Token(60), 1 << 26).explanations
        if method == "integrated_gradients":
            np.testing.assert_allclose(found.attributions["x"], [0, 4, 0], rtol=0.02, atol=1e-6)
        elif method != "smoothgrad":
            np.testing.assert_allclose(found.attributions["x"], [0, 4, 0], rtol=1e-5, atol=1e-6)


def test_a_model_of_integers_alone_says_why_it_has_no_gradient(tmp_path) -> None:
    at = bundle_of(tmp_path, [helper.make_node("Neg", ["x"], ["y"])], [("x", T.INT64, ["n", 3])], [("y", T.INT64, ["n", 3])])
    status = load(read_bundle(at)).status
    assert not status.usable
    assert "attribute_at" in status.reason


def test_a_model_whose_gradient_stops_says_where(tmp_path) -> None:
    nodes = [helper.make_node("Cast", ["x"], ["i"], to=T.INT64), helper.make_node("Cast", ["i"], ["y"], to=T.FLOAT)]
    status = load(read_bundle(bundle_of(tmp_path, nodes, [("x", T.FLOAT, ["n", 3])], [("y", T.FLOAT, ["n", 3])]))).status
    assert "no gradient" in status.reason


def test_an_input_that_no_gradient_reaches_is_named(tmp_path) -> None:
    nodes = [
        helper.make_node("Round", ["z"], ["r"]),
        helper.make_node("Cast", ["r"], ["i"], to=T.INT64),
        helper.make_node("Cast", ["i"], ["f"], to=T.FLOAT),
    ]
    nodes.append(helper.make_node("Add", ["x", "f"], ["y"]))
    at = bundle_of(tmp_path, nodes, [("x", T.FLOAT, ["n", 3]), ("z", T.FLOAT, ["n", 3])], [("y", T.FLOAT, ["n", 3])])
    status = load(read_bundle(at)).status
    assert status.usable
    assert status.no_gradient == ("z",)


def test_what_autograd_keeps_is_counted_once_a_storage() -> None:
    import torch

    saved, x = Saved(), torch.ones(1000, requires_grad=True)
    with saved.counting(frozenset()):
        y = (x * 2).exp()  # keeps its own result: 4,000 bytes
        assert y.requires_grad
    assert 4000 <= saved.bytes < 6000


def test_rows_follow_the_budget() -> None:
    assert rows_within(1000, 100, 32) == 5
    assert rows_within(1, 100, 32) == 1
    assert rows_within(10**9, 1, 32) == 32


def test_a_batch_size_baked_into_a_reshape_does_not_bind_the_twin(tmp_path) -> None:
    """As a static export leaves it: the served model takes one row only, integration needs many."""
    constants = [
        onnx.numpy_helper.from_array(np.asarray([1, 6], np.int64), "flat"),
        onnx.numpy_helper.from_array(np.ones((6, 2), np.float32), "w"),
    ]
    nodes = [helper.make_node("Reshape", ["x", "flat"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    at = bundle_of(tmp_path, nodes, [("x", T.FLOAT, [1, 2, 3])], [("y", T.FLOAT, [1, 2])], constants)
    subject = load(read_bundle(at))
    assert subject.status.usable, subject.status
    assert subject.twin(np.ones((5, 2, 3), np.float32))[0].shape == (5, 2)

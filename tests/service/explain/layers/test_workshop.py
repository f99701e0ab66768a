"""The layer operations: activations against ONNX Runtime, attributions against Captum on the original torch module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from captum.attr import InternalInfluence, LayerConductance, LayerGradCam, LayerGradientXActivation
from support import DIGITS, MODELS
from torch import nn

from service.errors import BadParameter, DeadlineExceeded, NotExplainable, TooLarge, UnknownChoice
from service.explain.cancel import Cancelled, TimeUp, Token
from service.explain.layers import selection
from service.explain.layers.studied import Operation, Studied, decode, encode
from service.explain.layers.workshop import Workshop
from service.explain.loading import load
from service.explain.subject import Subject
from service.repository.bundle import Location, read_bundle


class Model:
    """A bundle under a workshop."""

    def __init__(self, folder: Path, subject: Subject) -> None:
        self.file = folder / "model.onnx"
        self.subject = subject
        self.workshop = Workshop()

    def __call__(
        self, operation: Operation, rows: Mapping[str, np.ndarray] | None = None, seconds: float = 60, **parameters: Any
    ) -> Studied:
        return self.workshop.run(operation, self.subject, self.file, rows or {}, parameters, Token(seconds), 2**26)


def committed(name: str) -> Model:
    folder = MODELS / name / "1"
    return Model(folder, load(read_bundle(Location(name, 1, folder))))


@pytest.fixture(scope="module")
def mnist() -> Model:
    return committed("mnist-cnn")


@pytest.fixture(scope="module")
def small(bundles: Path, subjects: Mapping[str, Subject]) -> Model:
    return Model(bundles / "cnn" / "1", subjects["cnn"])


@pytest.fixture(scope="module")
def digits() -> dict[str, np.ndarray]:
    return {"image": DIGITS["test_pixels"][:3].reshape(3, 1, 28, 28).astype(np.float32)}


def test_every_layer_is_listed_with_what_the_graph_and_a_run_say(mnist: Model):
    layers = mnist("layers").fields["layers"]
    graph = onnx.load(mnist.file).graph
    assert [layer["output"] for layer in layers] == [n.output[0] for n in graph.node if n.op_type in ("Conv", "Relu", "Gemm")]
    assert layers[0] == {
        "name": "node_Conv_86",
        "operator": "Conv",
        "kind": "convolution",
        "output": "getitem",
        "shape": (None, 12, 14, 14),
        "parameters": 12 * 25 + 12,
        "spatial": True,
        "attributable": True,
        "grad_cam": True,
        "note": "",
    }
    # The exporter folded six normalisations, two numbers a channel, into one bias a channel.
    assert sum(layer["parameters"] for layer in layers) == 54918 - (12 + 16 + 32 + 32 + 44 + 64)


def test_activations_are_the_served_models_own(mnist: Model, digits: dict[str, np.ndarray]):
    model = onnx.load(mnist.file)
    layers = mnist("layers").fields["layers"]
    model.graph.output.extend(onnx.ValueInfoProto(name=layer["output"]) for layer in layers[:-1])
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for layer in layers:
        (expected,) = session.run([layer["output"]], digits)
        found = mnist("activations", digits, layer=layer["name"])
        assert found.fields["computed_by"] == "served model"
        for row, wanted in zip(found.rows, expected, strict=True):
            np.testing.assert_allclose(row["values"], wanted, rtol=1e-5, atol=1e-5)


def test_a_recurrent_layers_rows_stand_on_its_third_axis():
    model = committed("sst2-gru")
    rows = {"tokens": np.asarray([[5, 6, 7, 8]], np.int64), "lengths": np.asarray([4], np.int64)}
    assert model("activations", rows).rows[0]["values"].shape == (4, 2, 64)
    with pytest.raises(NotExplainable, match="batch isn't the first axis"):
        model("explain-layer", rows, layer="node__symbolic_multi_out__1")
    with pytest.raises(NotExplainable, match="isn't on the way"):
        model("explain-layer", rows, layer="node_embedding")
    with pytest.raises(NotExplainable, match="text"):
        model("visualise", rows)


@pytest.mark.parametrize(
    ("method", "captum", "arguments"),
    [
        ("layer_conductance", LayerConductance, {"n_steps": 40}),
        ("internal_influence", InternalInfluence, {"n_steps": 40}),
        ("layer_gradient_x_activation", LayerGradientXActivation, {}),
        ("layer_grad_cam", LayerGradCam, {}),
    ],
)
@pytest.mark.parametrize("place", ["relu2", "conv2"])
def test_layer_attributions_are_captums_on_the_original_module(
    small: Model, cnn_module: nn.Module, images: np.ndarray, method: str, captum: Any, arguments: dict[str, int], place: str
):
    names = [
        layer["name"]
        for layer in small("layers").fields["layers"]
        if layer["kind"] == ("activation" if place == "relu2" else "convolution")
    ]
    steps = {"steps": arguments["n_steps"]} if arguments else {}
    found = small("explain-layer", {"image": images}, layer=names[-1], method=method, target=3, **steps)
    for row, image in zip(found.rows, images, strict=True):
        x = torch.from_numpy(image[None])
        baselines = {"baselines": torch.zeros_like(x)} if arguments else {}
        expected = captum(cnn_module, getattr(cnn_module, place)).attribute(x, target=3, **baselines, **arguments).detach().numpy()[0]
        assert np.linalg.norm(row["attributions"] - expected) <= 1e-4 * np.linalg.norm(expected)


def test_conductance_adds_up_to_what_the_output_moved(small: Model, images: np.ndarray):
    found = small("explain-layer", {"image": images}, tolerance=0.02, max_steps=1000)
    session = ort.InferenceSession(str(small.file), providers=["CPUExecutionProvider"])
    (there,), (here,) = session.run(None, {"image": np.zeros_like(images)}), session.run(None, {"image": images})
    for row, f_b, f_x in zip(found.rows, there, here, strict=True):
        moved = float(f_x[row["target"]["index"]] - f_b[row["target"]["index"]])
        assert row["convergence_delta"] == pytest.approx(row["attributions"].sum() - moved, abs=1e-3)
        assert row["converged"] == (row["completeness_error"] <= 0.02)


def test_no_hook_outlives_an_attribution_that_is_stopped(small: Model, images: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    passes = 0

    def stop(token: Token) -> None:
        nonlocal passes
        passes += 1
        if passes > 4:
            raise TimeUp

    before = small("explain-layer", {"image": images[:1]}, steps=20)
    with monkeypatch.context() as patched:
        patched.setattr(Token, "check", stop)
        with pytest.raises(DeadlineExceeded):
            small("explain-layer", {"image": images[:1]}, steps=1000)
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in small.subject.faithful.modules())
    np.testing.assert_array_equal(
        small("explain-layer", {"image": images[:1]}, steps=20).rows[0]["attributions"], before.rows[0]["attributions"]
    )


def test_filters_are_the_files_weights(mnist: Model):
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(mnist.file).graph.initializer}
    np.testing.assert_array_equal(mnist("filters").rows[0]["values"], weights["conv1.weight"])
    np.testing.assert_array_equal(mnist("filters", channels="2,4-5").rows[0]["values"], weights["conv1.weight"][[2, 4, 5]])
    with pytest.raises(NotExplainable, match="has no filters"):
        mnist("filters", layer="node_relu")


def test_a_visualised_class_is_what_the_served_model_takes_for_it(mnist: Model, digits: dict[str, np.ndarray]):
    real = {f"reference.{i}.image": digits["image"][i : i + 1] for i in range(3)}
    found = mnist("visualise", {"image": digits["image"][:1]} | real, unit="2,7", steps=60)
    session = ort.InferenceSession(str(mnist.file), providers=["CPUExecutionProvider"])
    (reference,) = session.run(None, digits)
    for row, unit in zip(found.rows, (2, 7), strict=True):
        assert 0 <= row["values"].min() <= row["values"].max() <= 255
        (logits,) = session.run(None, {"image": row["values"][None]})
        assert logits[0].argmax() == unit
        assert row["activation"] == pytest.approx(logits[0, unit], rel=1e-4)
        assert row["reference_activation"] == pytest.approx(reference[:, unit].max(), rel=1e-4)
    again = mnist("visualise", {"image": digits["image"][:1]} | real, unit="2,7", steps=60)
    np.testing.assert_array_equal(again.rows[0]["values"], found.rows[0]["values"])  # the seed is all the chance there is


def test_a_visualised_row_keeps_within_the_columns():
    model = committed("wine-mlp")
    columns = model.subject.manifest.inputs[0].table.columns  # type: ignore[union-attr]
    row = {"row": np.asarray([[c.mean for c in columns]], np.float32)}
    usual = model("activations", row, layer="node_linear_2").rows[0]["values"]
    for found in model("visualise", row, steps=40).rows:
        for value, column in zip(found["values"], columns, strict=True):
            assert column.minimum - 1e-4 <= value <= column.maximum + 1e-4
        assert found["activation"] > usual[found["unit"]]


def test_errors_name_what_exists(mnist: Model, digits: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UnknownChoice, match="node_Conv_86"):
        mnist("activations", digits, layer="conv1")
    with pytest.raises(UnknownChoice, match="0, 1, 2"):
        mnist("visualise", digits, unit="eleven")
    with pytest.raises(BadParameter, match="0 to 11"):
        mnist("activations", digits, channels="12")
    with pytest.raises(BadParameter, match="there are: layer, timeout, channels"):
        mnist("activations", digits, chanels="1")
    with pytest.raises(NotExplainable, match="needs a layer with maps"):
        mnist("explain-layer", digits, layer="node_relu_5", method="layer_grad_cam")
    with pytest.raises((TimeUp, DeadlineExceeded)):
        mnist("visualise", digits, seconds=0.0, unit="1")
    monkeypatch.setattr(selection, "MOST_VALUES", 1000)
    with pytest.raises(TooLarge, match="channels"):
        mnist("activations", digits)


def test_a_cancelled_visualisation_ends(mnist: Model, digits: dict[str, np.ndarray]):
    token = Token(60)
    token.cancel()
    with pytest.raises(Cancelled):
        mnist.workshop.run("visualise", mnist.subject, mnist.file, digits, {}, token, 2**26)


def test_what_was_found_travels_whole():
    sent = Studied({"a": [1, None]}, ({"values": np.arange(6.0).reshape(2, 3), "n": 1}, {"values": np.zeros((1, 2), np.float32)}))
    got = decode(encode(sent, "m", "1"))
    assert got.fields == sent.fields
    assert got.rows[0]["n"] == 1
    for one, other in zip(got.rows, sent.rows, strict=True):
        np.testing.assert_array_equal(one["values"], other["values"])

"""The committed bundles: their golden answers are what ONNX Runtime computes from their golden bodies, without the service."""

from __future__ import annotations

import base64
import io
import json
import os
import wave
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from PIL import Image

from service.manifest import Golden, GoldenCase, Manifest, sha256_of

MODELS = Path(__file__).parents[2] / "models"


def rows(case: GoldenCase, manifest: Manifest) -> npt.NDArray[np.float32]:
    """The input tensor of a case, read as the contract says, by as little code as possible."""
    body = base64.b64decode(case.body_b64)
    raw = case.content_type in ("image/png", "audio/wav")
    instances = [{"b64": base64.b64encode(body).decode()}] if raw else json.loads(body)["instances"]
    return np.stack([row(instance, manifest) for instance in instances])


def row(instance: Any, manifest: Manifest) -> npt.NDArray[np.float32]:
    table = manifest.inputs[0].table
    if manifest.inputs[0].audio:
        with wave.open(io.BytesIO(base64.b64decode(instance["b64"]))) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return np.pad(samples[:8000].astype(np.float32) / 32768, (0, max(0, 8000 - len(samples))))
    if isinstance(instance, dict) and "b64" in instance:
        with Image.open(io.BytesIO(base64.b64decode(instance["b64"]))) as image:
            assert (image.size, image.mode) == ((28, 28), "L")
            return np.asarray(image, np.float32)[None]
    if isinstance(instance, dict):
        assert table is not None
        return np.array([instance[column.name] for column in table.columns], np.float32)
    return np.array(instance, np.float32)


@pytest.mark.parametrize("name", ["mnist-cnn", "fsdd-cnn", "wine-perceptron", "wine-mlp"])
def test_golden_answers_are_what_the_graph_computes(name: str):
    folder = MODELS / name / "1"
    manifest = Manifest.read(folder)
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    labels = manifest.outputs[0].labels
    for case in Golden.read(folder).cases:
        (logits,) = session.run(None, {manifest.inputs[0].name: rows(case, manifest)})
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        for probabilities, expected in zip(exponentials / exponentials.sum(1, keepdims=True), case.expected, strict=True):
            best = int(probabilities.argmax())
            assert (expected["index"], expected["label"]) == (best, labels[best])
            assert len(expected["top"]) == min(5, len(labels))
            for entry in expected["top"]:
                assert entry["probability"] == pytest.approx(probabilities[entry["index"]], abs=case.tolerance)
                assert entry["label"] == labels[entry["index"]]


@pytest.mark.parametrize("folder", sorted(MODELS.glob("*/*/model.yaml")), ids=lambda path: "/".join(path.parts[-3:-1]))
def test_every_file_is_the_one_that_the_manifest_hashes(folder: Path):
    manifest = Manifest.read(folder.parent)
    for name, digest in manifest.files.items():
        assert sha256_of(folder.parent / name) == digest


@pytest.mark.parametrize("model", sorted(MODELS.glob("*/*/model.onnx")), ids=lambda path: "/".join(path.parts[-3:-1]))
def test_no_graph_tells_where_it_was_made(model: Path):
    content = model.read_bytes()
    for trace in (b".py", b"site-packages", b"stack_trace", b"/home/", b"/root/", os.fsencode(Path.cwd())):
        assert trace not in content


def test_the_digit_network_meets_its_promise():
    manifest = Manifest.read(MODELS / "mnist-cnn" / "1")
    accuracy = next(metric for metric in manifest.metrics if (metric.name, metric.split) == ("accuracy", "test"))
    assert accuracy.n == 10_000
    assert accuracy.value >= 0.994
    assert manifest.provenance.multiply_adds is not None
    assert manifest.provenance.multiply_adds <= 2_000_000


@pytest.mark.slow
def test_the_spoken_digit_networks_figure_is_the_one_measured(data_folder: Path):
    from training.recipes.fsdd_cnn import sounds
    from training.recordings import load_fsdd

    test = load_fsdd(data_folder).test
    session = onnxruntime.InferenceSession(MODELS / "fsdd-cnn" / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"sound": sounds(test).numpy()})
    stated = next(metric.value for metric in Manifest.read(MODELS / "fsdd-cnn" / "1").metrics if metric.split == "test")
    assert (logits.argmax(1) == [recording.digit for recording in test]).mean() == pytest.approx(stated, abs=1e-9)


@pytest.mark.slow
def test_the_digit_networks_figure_is_the_one_measured(data_folder: Path):
    from training.datasets import load_mnist

    test = load_mnist(data_folder).test
    session = onnxruntime.InferenceSession(MODELS / "mnist-cnn" / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": test.pixels[:, None].astype(np.float32)})
    stated = next(metric.value for metric in Manifest.read(MODELS / "mnist-cnn" / "1").metrics if metric.split == "test")
    assert (logits.argmax(1) == test.labels).mean() == pytest.approx(stated, abs=1e-9)

"""The judge is the served model itself: its logits and features against ONNX Runtime and torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from service.manifest import Input, Manifest, Output, sha256_of
from training.datasets import Mnist
from training.export import Graph, tiled, to_onnx
from training.judge import Judge, JudgeError

SERVED = Path(__file__).parents[2] / "models" / "mnist-cnn" / "1"


def bundle(folder: Path, net: nn.Module) -> Path:
    axes = {"image": {0: "batch"}}
    model = to_onnx(Graph(net, axes, ("logits",), tiled(torch.rand(3, 1, 28, 28), axes=axes)))
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    Manifest(
        name="toy",
        version=1,
        task="classification",
        inputs=(Input(name="image", codec="tensor", dtype="float32", shape=(1, 28, 28)),),
        outputs=(Output(name="logits", kind="classes", dtype="float32", shape=(10,)),),
        files={"model.onnx": sha256_of(folder / "model.onnx")},
    ).write(folder)
    return folder


def test_features_are_what_enters_the_last_layer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    body, head = nn.Sequential(nn.Flatten(), nn.Linear(784, 6), nn.ReLU()), nn.Linear(6, 10)
    images, labels = torch.rand(1203, 1, 28, 28) * 255, torch.arange(1203) % 10  # more than one chunk
    seen = Judge(bundle(tmp_path / "toy" / "1", nn.Sequential(body, head))).see(images, labels)
    with torch.inference_mode():
        features = body(images)
        predicted = head(features).argmax(dim=1)
    torch.testing.assert_close(seen.features, features, rtol=1e-5, atol=1e-4)
    assert (seen.predicted == predicted).double().mean() > 0.99
    assert torch.equal(seen.labels, labels)


def test_it_predicts_as_the_served_classifier(digits: Mnist) -> None:
    images = torch.from_numpy(digits.test.pixels.copy()).unsqueeze(1)
    seen = Judge(SERVED).see(images, torch.from_numpy(digits.test.labels))
    session = onnxruntime.InferenceSession(SERVED / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": images.float().numpy()})
    assert np.array_equal(seen.predicted.numpy(), logits.argmax(1))
    assert (seen.predicted == seen.labels).double().mean() > 0.98
    assert seen.features.ndim == 2
    assert seen.features.shape[1] > 10


def test_without_a_classifier_it_says_what_to_train(tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match="train the classifier that judges first \\(whyserve train mnist-cnn\\)"):
        Judge(tmp_path / "mnist-cnn" / "1")


def test_a_graph_without_penultimate_features_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match="expected a Gemm as its last node, found Softmax"):
        Judge(bundle(tmp_path / "toy" / "1", nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Softmax(dim=1))))

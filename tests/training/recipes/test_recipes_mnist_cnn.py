"""The digits recipe on 700 real digits: it must learn, and its bundle must answer as its network does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.manifest import Golden, Manifest
from training.datasets import Mnist
from training.recipes import mnist_cnn
from training.session import Session


@pytest.fixture(scope="module")
def bundle(digits: Mnist, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mnist_cnn, "load_mnist", lambda root: digits)
        config = mnist_cnn.Config(epochs=6, batch_size=50, learning_rate=1e-2, ema=0.9)
        (made,) = mnist_cnn.train(config, Session(device="cpu", out=folder / "models", runs=folder / "runs"))
    return made


def test_it_learns(bundle: Path):
    # Chance is 0.1; six epochs over 700 distorted digits reach about 0.9.
    metrics = {(metric.name, metric.split): metric for metric in Manifest.read(bundle).metrics}
    assert metrics["accuracy", "test"].value > 0.75
    assert metrics["accuracy", "test"].n == 300


def test_the_manifest_is_complete(bundle: Path):
    manifest = Manifest.read(bundle)
    assert manifest.provenance.multiply_adds is not None
    assert manifest.provenance.multiply_adds < 2_000_000
    assert manifest.provenance.hyperparameters["epochs"] == 6
    assert manifest.data[0].sha256.keys() >= {"train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"}
    assert set(manifest.files) == {"model.onnx", "golden.json", "reference.npz"}


def test_golden_cases_cover_png_json_pictures_and_json_numbers(bundle: Path):
    cases = Golden.read(bundle).cases
    assert [case.content_type for case in cases] == ["image/png", "application/json", "application/json"]
    assert [len(case.expected) for case in cases] == [1, 2, 1]


def test_the_curves_hold_every_epoch(bundle: Path):
    curves = json.loads((bundle.parents[2] / "runs" / "mnist-cnn" / "curves.json").read_text())
    assert {len(curve) for curve in curves.values()} == {6}
    assert (bundle / "curves.png").stat().st_size < 60_000

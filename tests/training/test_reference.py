"""Reference sets: training instances only, the same every time, and the committed bundles have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.explain.reference_file import read
from service.manifest import Baseline, Explain, Input, Manifest, Output, sha256_of
from training.datasets import Images
from training.reference import REFERENCE_FILE, SETS, attach, digits, packed, stratified

MODELS = Path(__file__).parents[2] / "models"


def test_each_class_has_as_many_as_the_others():
    labels = np.asarray([0] * 50 + [1] * 9 + [2] * 20)
    rows = stratified(labels, 10)
    assert np.bincount(labels[rows]).tolist() == [4, 3, 3]
    assert len(set(rows.tolist())) == 10
    np.testing.assert_array_equal(rows, stratified(labels, 10))


def test_the_file_has_the_same_bytes_for_the_same_arrays():
    images = Images(np.arange(100 * 784, dtype=np.uint8).reshape(100, 28, 28), np.arange(100) % 10)
    assert packed(digits(images)) == packed(digits(images))


def test_attached_to_a_bundle_it_is_hashed_and_read(tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(b"graph")
    Manifest(
        name="m",
        version=1,
        task="regression",
        inputs=(Input(name="x", codec="tensor", dtype="float32", shape=(2,)),),
        outputs=(Output(name="y", kind="value", dtype="float32", shape=(1,)),),
        explain=Explain(output="value", baseline={"x": Baseline(kind="zero")}),
        files={"model.onnx": sha256_of(tmp_path / "model.onnx")},
    ).write(tmp_path)
    attach(tmp_path, {"x": np.asarray([[1, 2], [3, 4]], np.uint8)})
    manifest = Manifest.read(tmp_path)
    assert manifest.files[REFERENCE_FILE] == sha256_of(tmp_path / REFERENCE_FILE)
    found = read(tmp_path, manifest)
    assert found["x"].dtype == np.float32
    np.testing.assert_array_equal(found["x"], [[1, 2], [3, 4]])


@pytest.mark.parametrize("name", sorted(SETS))
def test_the_committed_bundles_have_theirs(name: str):
    folder = MODELS / name / "1"
    manifest = Manifest.read(folder)
    found = read(folder, manifest)
    assert set(found) == {entry.name for entry in manifest.inputs}
    assert all(20 <= len(array) <= 60 for array in found.values())


def test_digits_are_training_digits_and_no_test_digits(data_folder: Path):
    from training.datasets import load_mnist

    data = load_mnist(data_folder)
    stored = read(MODELS / "mnist-cnn" / "1", Manifest.read(MODELS / "mnist-cnn" / "1"))["image"].astype(np.uint8)[:, 0]
    train = {picture.tobytes() for picture in data.train.pixels}
    test = {picture.tobytes() for picture in data.test.pixels}
    assert all(picture.tobytes() in train and picture.tobytes() not in test for picture in stored)

"""The recipe from data to two bundles, on few real digits; and the committed bundles themselves."""

from __future__ import annotations

import base64
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from service.manifest import Golden, Manifest, sha256_of
from training.datasets import Mnist
from training.fit import FitError
from training.recipes import mnist_gan
from training.recipes.mnist_gan import Config, train
from training.session import Session

MODELS = Path(__file__).parents[3] / "models"
NAMES = ("mnist-generator", "mnist-discriminator")


def figures(manifest: Manifest) -> dict[str, float]:
    return {metric.name: metric.value for metric in manifest.metrics}


@pytest.fixture(scope="module")
def trained(digits: Mnist, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The bundles of one epoch on 700 digits: they draw noise, but they are whole."""
    root = tmp_path_factory.mktemp("gan")
    shutil.copytree(MODELS / "mnist-cnn", root / "models" / "mnist-cnn")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mnist_gan, "load_mnist", lambda _folder: digits)
        return train(Config(epochs=1), Session(device="cpu", out=root / "models", runs=root / "runs"))


@pytest.fixture(params=[*NAMES, *(f"committed {name}" for name in NAMES)])
def folder(request: pytest.FixtureRequest, trained: list[Path]) -> Path:
    """Each bundle just trained, and each that the repository holds."""
    kind, _, name = request.param.rpartition(" ")
    return MODELS / name / "1" if kind else trained[NAMES.index(name)]


def test_a_bundle_is_whole(folder: Path) -> None:
    manifest = Manifest.read(folder)
    assert folder.parts[-2:] == (manifest.name, "1")
    assert {name: sha256_of(folder / name) for name in manifest.files} == manifest.files
    card = (folder / "README.md").read_text("utf-8")
    for picture in ("curves.png", "samples.png"):
        assert f"]({picture})" in card
        if folder.is_relative_to(MODELS):  # noise, as after one epoch, compresses badly
            assert (folder / picture).stat().st_size < 60_000
        Image.open(folder / picture).verify()
    for metric in manifest.metrics:
        assert f"| {metric.value:.6g} |" in card
    assert manifest.explain is not None
    assert manifest.explain.attribute_at == {"class": "class_onehot"}
    assert manifest.explain.baseline["class"].value == pytest.approx(0.1)


def test_the_graph_has_the_one_hot_class_under_its_name(folder: Path) -> None:
    """Cut there by onnx itself, it must be the identity matrix's rows; a class that doesn't exist is refused."""
    model = onnx.load(folder / "model.onnx")
    cut = onnx.utils.Extractor(model).extract_model(["class"], ["class_onehot"])
    session = onnxruntime.InferenceSession(cut.SerializeToString(), providers=["CPUExecutionProvider"])
    (onehot,) = session.run(None, {"class": np.array([0, 9, 4])})
    assert np.array_equal(onehot, np.eye(10, dtype=np.float32)[[0, 9, 4]])
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
        session.run(None, {"class": np.array([10])})


def test_golden_answers_are_those_of_onnx_runtime(folder: Path) -> None:
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    for case in Golden.read(folder).cases:
        body = base64.b64decode(case.body_b64)
        raw = case.content_type == "image/png"
        instances = [{"image": body, "class": case.query["class"]}] if raw else json.loads(body)["instances"]
        assert len(instances) == len(case.expected)
        for instance, expected in zip(instances, case.expected, strict=True):
            (output,) = session.run(None, {name: tensor(name, value) for name, value in instance.items()})
            compare(output[0], expected, case.tolerance)


def tensor(name: str, value: Any) -> np.ndarray[Any, Any]:
    if name == "class":
        return np.array([int(value)])
    if name == "latent":
        return np.array([value], np.float32)
    picture = Image.open(io.BytesIO(value if isinstance(value, bytes) else base64.b64decode(value["b64"])))
    return np.asarray(picture, np.float32)[None, None]


def compare(output: np.ndarray[Any, Any], expected: dict[str, Any], tolerance: float) -> None:
    if "image" in expected:
        assert np.abs(output - np.array(expected["image"])).max() < tolerance
        return
    real = 1 / (1 + np.exp(-float(output[0])))
    assert expected["label"] == ("real" if real > 0.5 else "fake")
    shown = {one["label"]: one["probability"] for one in expected["top"]}
    assert shown == pytest.approx({"real": real, "fake": 1 - real}, abs=tolerance)


def test_the_committed_generator_keeps_what_was_promised() -> None:
    generator = figures(Manifest.read(MODELS / "mnist-generator" / "1"))
    assert generator["recognised"] >= 0.97
    assert min(generator[f"variance_ratio_{k}"] for k in range(10)) == generator["variance_ratio_smallest"] >= 0.8
    assert generator["frechet_distance"] < 10 * generator["frechet_distance_real_halves"]


def test_the_committed_generator_draws_what_is_asked_for() -> None:
    """Judged here by the committed classifier, on fresh latents."""
    latent = np.random.default_rng(5).standard_normal((1000, 64), np.float32)
    label = np.arange(1000) % 10
    generator, classifier = (
        onnxruntime.InferenceSession(MODELS / name / "1" / "model.onnx", providers=["CPUExecutionProvider"])
        for name in ("mnist-generator", "mnist-cnn")
    )
    (images,) = generator.run(None, {"latent": latent, "class": label})
    (logits,) = classifier.run(None, {"image": images})
    assert images.min() > -1e-3  # ONNX Runtime's Tanh overshoots by a few 1e-7
    assert images.max() < 255.001
    assert (logits.argmax(1) == label).mean() > 0.97


def test_without_its_judge_the_recipe_says_what_to_train_first(tmp_path: Path) -> None:
    with pytest.raises(FitError, match="whyserve train mnist-cnn"):
        train(Config(), Session(out=tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_epochs_on_all_digits_draw_recognisable_ones(data_folder: Path, tmp_path: Path) -> None:
    """Minutes; the committed run had 0.85 after its first epoch and 0.98 after its second."""
    shutil.copytree(MODELS / "mnist-cnn", tmp_path / "models" / "mnist-cnn")
    session = Session(device="cpu", out=tmp_path / "models", runs=tmp_path / "runs", data=data_folder)
    folder, _ = train(Config(epochs=2), session)
    assert figures(Manifest.read(folder))["recognised"] > 0.9

"""Bundles on disk: complete, hashed, and replaced only by a complete one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from service.manifest import Golden, Input, Manifest, Output
from training.bundle import multiply_adds, parameter_count, versions, write_bundle
from training.golden import json_case

GOLDEN = Golden(cases=(json_case([[1.0]], [{"value": 1.0}]),))


def identity() -> onnx.ModelProto:
    x, y = (onnx.helper.make_tensor_value_info(name, 1, ["batch", 1]) for name in "xy")
    return onnx.helper.make_model(onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y]))


def describe(files: dict[str, str]) -> Manifest:
    return Manifest(
        name="toy",
        version=3,
        task="regression",
        inputs=(Input(name="x", codec="tensor", dtype="float32", shape=(1,)),),
        outputs=(Output(name="y", kind="value", dtype="float32", shape=(1,)),),
        files=files,
    )


def card(manifest: Manifest) -> str:
    return f"# {manifest.name}\n"


def test_a_bundle_holds_what_its_manifest_hashes(tmp_path: Path):
    plot = tmp_path / "a.png"
    plot.write_bytes(b"png")
    folder = write_bundle(tmp_path, identity(), describe, GOLDEN, card, {"reference.npz": b"123"}, {"curves.png": plot})
    assert folder == tmp_path / "toy" / "3"
    assert {path.name for path in folder.iterdir()} == {
        "model.onnx",
        "model.yaml",
        "golden.json",
        "README.md",
        "reference.npz",
        "curves.png",
    }
    manifest = Manifest.read(folder)
    assert manifest.files == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("model.onnx", "golden.json", "reference.npz")
    }
    assert Golden.read(folder) == GOLDEN
    onnx.checker.check_model(onnx.load(folder / "model.onnx"))
    assert not (tmp_path / ".partial").exists()


def test_an_older_bundle_survives_a_failed_write(tmp_path: Path):
    folder = write_bundle(tmp_path, identity(), describe, GOLDEN, card)
    before = (folder / "model.yaml").read_bytes()

    def fails(manifest: Manifest) -> str:
        raise RuntimeError("no card")

    with pytest.raises(RuntimeError):
        write_bundle(tmp_path, identity(), describe, GOLDEN, fails)
    assert (folder / "model.yaml").read_bytes() == before


def test_multiply_adds_of_known_layers():
    # A 3x3 convolution from 2 to 4 channels on 5x5 outputs, then 100 to 7.
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(100, 7))
    assert multiply_adds(net, torch.zeros(1, 2, 5, 5)) == 25 * 4 * 2 * 9 + 100 * 7


def test_parameters_of_known_layers():
    assert parameter_count(nn.Sequential(nn.Linear(10, 3), nn.BatchNorm1d(3))) == 33 + 6


def test_versions_name_what_made_the_bundle():
    assert {"python", "torch", "onnx"} <= versions().keys()
    # PyPI's wheel with CUDA is 2.13.0 to pip and 2.13.0+cu130 to itself.
    assert versions()["torch"].split("+")[0] == torch.__version__.split("+")[0]

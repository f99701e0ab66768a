"""Bundles on disk: which folders are some, and why a bundle is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support import bundle_named

from service.repository.bundle import BadBundle, Location, find_bundles, read_bundle

TABLES = bundle_named("wine-perceptron")


def copy(root: Path, name: str = "m", version: str = "1") -> Path:
    return Path(shutil.copytree(TABLES.folder, root / name / version))


def test_every_version_of_every_model_in_order_and_nothing_else(tmp_path: Path):
    for name, version in (("b", "10"), ("b", "9"), ("a", "1"), ("b", "x"), ("b", "0"), (".hidden", "1"), ("sp ace", "1"), ("c", "١")):
        (tmp_path / name / version).mkdir(parents=True)
    (tmp_path / "file").write_text("")
    found = [(location.name, location.version) for location in find_bundles(tmp_path)]
    assert found == [("a", 1), ("b", 9), ("b", 10)]


def test_one_bundle_alone_has_the_name_given_or_its_own(tmp_path: Path):
    folder = copy(tmp_path)
    assert find_bundles(folder) == [Location("wine-perceptron", 1, folder)]
    assert find_bundles(folder, "mine") == [Location("mine", 1, folder)]
    (folder / "model.yaml").unlink()
    assert find_bundles(tmp_path / "m" / "1")[0].name == "1"


def test_a_repository_that_does_not_exist(tmp_path: Path):
    with pytest.raises(BadBundle, match="no such folder"):
        find_bundles(tmp_path / "nope")


def test_a_good_bundle(tmp_path: Path):
    bundle = read_bundle(Location("m", 1, copy(tmp_path)))
    assert bundle.manifest == TABLES.manifest
    assert bundle.golden == TABLES.golden
    assert bundle.model_sha256 == TABLES.manifest.files["model.onnx"]


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("model.onnx", None, "model.onnx is missing"),
        ("model.onnx", b"other", "model.onnx is not the file of the manifest"),
        ("golden.json", None, "golden.json is missing"),
        ("golden.json", b"{}", "golden.json is not the file"),
        ("model.yaml", b"a: [", "no YAML"),
        ("model.yaml", b"\xff\xfe\x00", "no YAML"),
        ("model.yaml", b"[]", "model.yaml"),
        ("model.yaml", b"format: 2\n", "format"),
        ("model.yaml", b"!!python/object/apply:os.system ['true']", "no YAML"),
    ],
)
def test_what_is_refused_and_why(tmp_path: Path, file: str, content: bytes | None, words: str):
    folder = copy(tmp_path)
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(BadBundle, match=words) as caught:
        read_bundle(Location("m", 1, folder))
    assert str(tmp_path) not in str(caught.value)


def test_an_unknown_field_is_never_ignored(tmp_path: Path):
    folder = copy(tmp_path)
    with (folder / "model.yaml").open("a") as file:
        file.write("polarity: invert\n")
    with pytest.raises(BadBundle, match="polarity"):
        read_bundle(Location("m", 1, folder))


def test_a_bare_model(tmp_path: Path):
    folder = copy(tmp_path)
    (folder / "model.yaml").unlink()
    bundle = read_bundle(Location("m", 1, folder))
    assert (bundle.manifest, bundle.golden) == (None, None)
    assert bundle.model_sha256 == TABLES.manifest.files["model.onnx"]

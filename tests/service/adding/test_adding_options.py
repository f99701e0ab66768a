"""What the user says to `whyserve add`, what is detected without, and what contradicts the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from exporters import add
from support import png, serving

from service.cli import main
from service.manifest import Manifest

HEADER = '<ir_version: 8, opset_import: ["" : 17]>\n'
SCORES = HEADER + "agraph (float[N, 4] x) => (float[N, 4] y) { y = Neg (x) }"
ENDING = HEADER + "agraph (float[N, 4] x) => (float[N, 4] y) { a = Neg (x)  b = Softmax (a)  y = Identity (b) }"
ONE_SCORE = HEADER + "agraph (float[N, 4] x) => (float[N, 1] y) <int64[1] axes = {1}> { s = ReduceSum (x, axes)  y = Sigmoid (s) }"
ONE_VALUE = HEADER + "agraph (float[N, 4] x) => (float[N, 1] y) <int64[1] axes = {1}> { y = ReduceSum (x, axes) }"
CHANNELS_FIRST = (
    HEADER
    + "agraph (float[N, {c}, {h}, {w}] x) => (float[N, {c}] y) <int64[2] axes = {{2, 3}}> {{ y = ReduceSum <keepdims = 0> (x, axes) }}"
)
LAST = (
    HEADER
    + "agraph (float[N, {h}, {w}, {c}] x) => (float[N, {c}] y) <int64[2] axes = {{1, 2}}> {{ y = ReduceSum <keepdims = 0> (x, axes) }}"
)
FLAT = HEADER + "agraph (float[N, 64] x) => (float[N, 1] y) <int64[1] axes = {1}> { y = ReduceSum (x, axes) }"
SOUND = (
    HEADER
    + """agraph (float[N, 1, T] x) => (float[N, 1] y)
    {
        mean = ReduceMean <axes = [1, 2], keepdims = 0> (x)
        one = Constant <value_ints = [-1, 1]> ()
        y = Reshape (mean, one)
    }"""
)
FOUR = HEADER + "agraph (float[4, 3] x) => (float[4, 3] y) { y = Neg (x) }"
FOUR_MIXED = HEADER + "agraph (float[4, 3] x) => (float[4, 3] y) { zero = Constant <value_int = 0> ()  y = CumSum (x, zero) }"
TWO = HEADER + "agraph (float[N, 3] x) => (float[N, 3] first, float[N, 3] second) { first = Neg (x)  second = Softmax (x) }"
RANDOM = HEADER + "agraph (float[N, 3] x) => (float[N, 3] y) { r = RandomNormalLike (x)  y = Add (x, r) }"
NO_BATCH = HEADER + "agraph (float[N, 3] x, float s) => (float[N, 3] y) { y = Mul (x, s) }"
SEQUENCE = HEADER + "agraph (float[N, 3] x) => (seq(float[N, 3]) y) { y = SequenceConstruct (x) }"


def saved(folder: Path, graph: str) -> Path:
    file = folder / "m.onnx"
    onnx.save(onnx.parser.parse_model(graph), str(file))
    return file


def manifest(folder: Path) -> Manifest:
    return Manifest.read(folder / "models" / "m" / "1")


def made(folder: Path, graph: str, *options: str) -> tuple[Manifest, str]:
    report = add(saved(folder, graph), "--name", "m", "--models", folder / "models", *options)
    return manifest(folder), " ".join(report.split())


def run(folder: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(folder / "models" / "m" / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    answer: np.ndarray = session.run(None, {"x": x})[0]
    return answer


# ---------------------------------------------------------------------------------------------------------------- outputs


@pytest.mark.parametrize(
    ("graph", "options", "kind", "activation", "activated", "explained"),
    [
        (SCORES, (), "tensor", "none", False, "value"),
        (SCORES, ("--labels", "a,b,c,d"), "classes", "softmax", False, "logit"),
        (SCORES, ("--labels", "a,b,c,d", "--activation", "sigmoid"), "classes", "sigmoid", False, "logit"),
        (SCORES, ("--labels", "a,b,c,d", "--activation", "none"), "classes", "none", False, "logit"),
        (SCORES, ("--task", "regression"), "value", "none", False, "value"),
        (ENDING, (), "classes", "softmax", True, "logit"),
        (ENDING, ("--task", "other"), "tensor", "none", False, "value"),
        (ONE_SCORE, ("--labels", "no,yes"), "classes", "sigmoid", True, "logit"),
        (ONE_VALUE, (), "value", "none", False, "value"),
        (TWO, ("--output", "second"), "classes", "softmax", True, "logit"),
    ],
)
def test_what_the_output_is(
    graph: str, options: tuple[str, ...], kind: str, activation: str, activated: bool, explained: str, tmp_path: Path
):
    found, _ = made(tmp_path, graph, *options)
    output = found.outputs[0]
    assert (output.kind, output.activation, output.activated) == (kind, activation, activated)
    assert found.explain is not None
    assert found.explain.output == explained


def test_the_logit_behind_an_identity_is_explained(tmp_path: Path):
    _, report = made(tmp_path, ENDING)
    assert "its logit ('a') is explained" in report


@pytest.mark.parametrize("form", ["a\nb\nc\nd\n", '["a", "b", "c", "d"]', '{"3": "d", "0": "a", "1": "b", "2": "c"}'])
def test_labels_from_a_file(form: str, tmp_path: Path):
    (tmp_path / "labels").write_text(form)
    found, _ = made(tmp_path, SCORES, "--labels", str(tmp_path / "labels"))
    assert found.outputs[0].labels == ("a", "b", "c", "d")


# ---------------------------------------------------------------------------------------------------------------- inputs


@pytest.mark.parametrize(
    ("graph", "options", "shape", "layout"),
    [
        (CHANNELS_FIRST.format(c=3, h=10, w=12), (), (3, 10, 12), "NCHW"),
        (LAST.format(c=3, h=10, w=12), (), (10, 12, 3), "NHWC"),
        (CHANNELS_FIRST.format(c=1, h="H", w="W"), ("--size", "9x8"), (1, 9, 8), "NCHW"),
        (LAST.format(c=1, h="H", w="W"), ("--size", "9"), (9, 9, 1), "NHWC"),
        (CHANNELS_FIRST.format(c="C", h="H", w="W"), ("--size", "9", "--layout", "NCHW", "--channels", "3"), (3, 9, 9), "NCHW"),
        (FLAT, ("--input", "image", "--size", "8x8"), (1, 8, 8), "NCHW"),
    ],
)
def test_pictures_of_any_layout(graph: str, options: tuple[str, ...], shape: tuple[int, ...], layout: str, tmp_path: Path):
    found, _ = made(tmp_path, graph, *options)
    (declared,) = found.inputs
    assert declared.image is not None
    assert (declared.shape, declared.image.layout, declared.range) == (shape, layout, (0.0, 255.0))


@pytest.mark.parametrize("graph", [CHANNELS_FIRST, LAST], ids=["NCHW", "NHWC"])
async def test_pixels_go_through_the_arithmetic_given(graph: str, tmp_path: Path):
    """(pixel / 127.5 - mean) / std, summed over the picture: by hand from the PNG's own pixels."""
    made(
        tmp_path,
        graph.format(c=3, h=10, w=12),
        "--scale",
        "127.5",
        "--mean",
        "1",
        ".5",
        "0",
        "--std",
        "1",
        "2",
        "4",
        "--task",
        "regression",
    )
    pixels = np.random.default_rng(0).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    wanted = ((pixels / 127.5 - [1, 0.5, 0]) / [1, 2, 4]).sum((0, 1))
    async with serving(models=tmp_path / "models") as client:
        answer = await client.post("/v1/models/m:predict", content=png(pixels), headers={"content-type": "image/png"})
    assert answer.json()["predictions"][0]["values"] == pytest.approx(wanted.tolist(), rel=1e-4)


@pytest.mark.parametrize(("numbers", "scale"), [((".5", ".25"), 255), (("127.5", "63.75"), 1)])
def test_the_scale_follows_from_the_mean(numbers: tuple[str, str], scale: int, tmp_path: Path):
    _, report = made(tmp_path, CHANNELS_FIRST.format(c=1, h=8, w=8), "--mean", numbers[0], "--std", numbers[1])
    pixels = np.full((2, 1, 8, 8), 255, np.float32)
    np.testing.assert_allclose(
        run(tmp_path, pixels), np.full((2, 1), 64 * (255 / scale - float(numbers[0])) / float(numbers[1])), rtol=1e-5
    )
    assert ("pixel / 255" in report) == (scale == 255)


def test_a_sound(tmp_path: Path):
    found, _ = made(tmp_path, SOUND, "--sample-rate", "8000", "--max-seconds", "2")
    (declared,) = found.inputs
    assert (declared.codec, declared.shape, declared.range) == ("audio", (1, None), (-1.0, 1.0))
    assert declared.audio is not None
    assert (declared.audio.sample_rate, declared.audio.max_seconds) == (8000, 2.0)


def test_a_reference_set(tmp_path: Path):
    np.savez(tmp_path / "typical.npz", x=np.zeros((5, 4), np.float32))
    found, _ = made(tmp_path, SCORES, "--reference", str(tmp_path / "typical.npz"))
    assert found.explain is not None
    assert found.explain.reference == "reference.npz"
    with np.load(tmp_path / "models" / "m" / "1" / "reference.npz") as kept:
        assert kept["x"].shape == (5, 4)


# ----------------------------------------------------------------------------------------------------------------- batches


def test_a_batch_of_four_is_freed_where_rows_are_apart(tmp_path: Path):
    found, report = made(tmp_path, FOUR)
    assert "batch size 4" in report
    assert found.batching.rows_independent
    assert run(tmp_path, np.ones((5, 3), np.float32)).shape == (5, 3)


def test_a_batch_of_four_is_kept_where_they_are_not(tmp_path: Path):
    found, report = made(tmp_path, FOUR_MIXED)
    assert "exactly 4 rows" in report
    assert (found.batching.max, found.batching.rows_independent) == (4, False)


def test_random_answers_are_noticed(tmp_path: Path):
    found, report = made(tmp_path, RANDOM)
    assert "draws random numbers" in report
    assert not found.batching.rows_independent
    assert not (tmp_path / "models" / "m" / "1" / "golden.json").exists()


# ---------------------------------------------------------------------------------------------------- versions and folders


def test_each_time_the_next_version(tmp_path: Path):
    made(tmp_path, SCORES)
    assert "models/m/2" in made(tmp_path, SCORES)[1]
    assert "models/m/7" in made(tmp_path, SCORES, "--version", "7")[1]
    assert "models/m/8" in made(tmp_path, SCORES)[1]


def test_a_dry_run_writes_nothing(tmp_path: Path):
    report = add(saved(tmp_path, SCORES), "--name", "m", "--models", tmp_path / "models", "--dry-run")
    assert "nothing written" in report
    assert list((tmp_path / "models").iterdir()) == []


def test_what_is_written_can_be_read_by_a_server_of_another_user(tmp_path: Path):
    made(tmp_path, SCORES)
    folder = tmp_path / "models" / "m" / "1"
    umask = os.umask(0)
    os.umask(umask)
    assert folder.stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.parametrize(
    ("graph", "options", "words"),
    [
        (SCORES, ("--labels", "a,b,c"), ("3 labels", "4 scores")),
        (SCORES, ("--labels", "a,b,c,a"), ("'a' is there twice",)),
        (SCORES, ("--labels", "nowhere.txt"), ("No such file",)),
        (SCORES, ("--labels", "a,b,c,d", "--task", "regression"), ("--task regression has none",)),
        (ONE_SCORE, ("--labels", "a,b,c"), ("3 labels", "needs 2")),
        (ENDING, ("--activation", "sigmoid"), ("ends in softmax",)),
        (SCORES, ("--output", "z"), ("no such output", "y")),
        (SCORES, ("--name", "no/name"), ("--name",)),
        (SCORES, ("--version", "0"), ("1 or more",)),
        (SCORES, ("--columns", "a,b"), ("2 names", "4 columns")),
        (SCORES, ("--input", "image"), ("--size HEIGHTxWIDTH",)),
        (SCORES, ("--input", "audio"), ("--sample-rate",)),
        (SCORES, ("--input", "text", "--tokenizer", "x"), ("No such file",)),
        (SCORES, ("--reference", "nowhere.npz"), ("--reference", "can't be read")),
        (CHANNELS_FIRST.format(c=3, h="H", w="W"), (), ("--size",)),
        (CHANNELS_FIRST.format(c=3, h=8, w=9), ("--size", "7"), ("[8, 9]",)),
        (CHANNELS_FIRST.format(c=3, h=8, w=9), ("--size", "big"), ("HEIGHTxWIDTH",)),
        (CHANNELS_FIRST.format(c=1, h=8, w=9), ("--mean", "1", "2", "3"), ("one channel",)),
        (CHANNELS_FIRST.format(c=1, h=8, w=9), ("--mean", "1", "2"), ("one number, or three",)),
        (CHANNELS_FIRST.format(c=1, h=8, w=9), ("--std", "0"), ("positive",)),
        (CHANNELS_FIRST.format(c=4, h=8, w=9), ("--input", "image"), ("1 or 3 channels",)),
        (NO_BATCH, (), ("'s'", "batch axis")),
        (SEQUENCE, (), ("no output can be served", "'y'")),
    ],
)
def test_what_contradicts_the_file_is_an_error_in_one_line(
    graph: str, options: tuple[str, ...], words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["add", str(saved(tmp_path, graph)), "--name", "m", "--models", str(tmp_path / "models"), *options]) == 2
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1
    for word in words:
        assert word in said, said
    assert not list((tmp_path / "models").glob("*")), "nothing is left behind"


def test_a_version_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    made(tmp_path, SCORES)
    assert main(["add", str(tmp_path / "m.onnx"), "--name", "m", "--models", str(tmp_path / "models"), "--version", "1"]) == 2
    assert "version 1 already" in capsys.readouterr().err


def test_a_repository_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = saved(tmp_path, SCORES)
    for models in (file, file / "below"):
        assert main(["add", str(file), "--name", "m", "--models", str(models)]) == 2
        assert str(models) in capsys.readouterr().err


def test_a_repository_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def refused(*_: Any, **__: Any) -> str:  # root may write everywhere, so no folder refuses
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("service.adding.folder.mkdtemp", refused)
    assert main(["add", str(saved(tmp_path, SCORES)), "--name", "m", "--models", str(tmp_path / "models")]) == 2
    assert "Permission denied" in capsys.readouterr().err


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["add", str(tmp_path / "no.onnx"), "--name", "m", "--models", str(tmp_path)]) == 2
    assert "No such file" in capsys.readouterr().err


def test_without_the_extra_it_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.adding.command.find_spec", lambda name: None if name == "torch" else object())
    report = add(saved(tmp_path, SCORES), "--name", "m", "--models", tmp_path / "models")
    assert "torch and captum aren't installed" in " ".join(report.split())
    monkeypatch.setattr("service.adding.command.find_spec", lambda name: None)
    assert main(["add", str(tmp_path / "m.onnx"), "--name", "m", "--models", str(tmp_path / "models")]) == 2
    assert "extra 'explain'" in capsys.readouterr().err

"""The command `whyserve`, as a process: help, commands with and without a server, and errors in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from support import BUNDLES, ROOT, SENTENCES, Server, bundle_named, digit, png

from service.cli import main

MNIST = bundle_named("mnist-cnn")
TEXTS = bundle_named("sst2-gru")


def whyserve(*arguments: str, sent: bytes = b"", environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WHYSERVE_")} | {"OMP_NUM_THREADS": "1"}
    command = [str(Path(sys.executable).parent / "whyserve"), *arguments]
    return subprocess.run(command, cwd=ROOT, env=clean | (environment or {}), input=sent, capture_output=True, timeout=120, check=False)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "seven.png"
    path.write_bytes(png(digit(0)))
    return path


@pytest.fixture
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_help_shows_each_command_with_an_example():
    ended = whyserve("--help")
    assert ended.returncode == 0
    for command in ("serve", "models", "predict", "explain", "train", "bench"):
        assert f"whyserve {command}" in ended.stdout.decode(), command


@pytest.mark.parametrize("command", ["serve", "models", "predict", "explain", "train", "bench"])
def test_help_of_each_command(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"whyserve {command}" in capsys.readouterr().out


def test_models_without_a_server():
    ended = whyserve("models")
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == [bundle.name for bundle in BUNDLES]
    assert all("READY" in line for line in lines)


def test_models_of_a_server(server: Server, capsys: pytest.CaptureFixture[str]):
    assert main(["models", "--url", server.url]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(BUNDLES)


def test_predict_without_a_server_even_where_the_environment_asks_for_keys(picture: Path, tmp_path: Path):
    (tmp_path / "keys").write_text("secret\n")
    ended = whyserve("predict", MNIST.name, str(picture), environment={"WHYSERVE_API_KEYS_FILE": str(tmp_path / "keys")})
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["index"] == int(MNIST.probabilities(MNIST.row(0)).argmax())


def test_predict_from_a_file_a_text_and_standard_input(server: Server, picture: Path, capsys: pytest.CaptureFixture[str]):
    def predicted(*arguments: str) -> str:
        assert main(["predict", *arguments, "--url", server.url]) == 0
        label: str = json.loads(capsys.readouterr().out)["label"]
        return label

    digit_label = MNIST.manifest.outputs[0].labels[int(MNIST.probabilities(MNIST.row(0)).argmax())]
    assert predicted(MNIST.name, str(picture)) == digit_label
    assert predicted(f"{MNIST.name}/1", str(picture), "-p", "top_k=1") == digit_label
    text_label = TEXTS.manifest.outputs[0].labels[int(TEXTS.probabilities(TEXTS.row(0)).argmax())]
    assert predicted(TEXTS.name, SENTENCES[0]) == text_label
    assert predicted(TEXTS.name, "a good film, " * 60) in TEXTS.manifest.outputs[0].labels  # longer than any file's name
    ended = whyserve("predict", TEXTS.name, "-", "--url", server.url, sent=SENTENCES[0].encode())
    assert json.loads(ended.stdout)["label"] == text_label


def test_explain_writes_picture_page_and_json(server: Server, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("why.png", "why.html", "why.json"):
        assert main(["explain", MNIST.name, str(picture), "--output", str(tmp_path / name), "--url", server.url]) == 0
        assert capsys.readouterr().out == f"wrote {tmp_path / name}\n"
    with Image.open(BytesIO((tmp_path / "why.png").read_bytes())) as drawn:
        assert drawn.size == (28, 28)
    assert (tmp_path / "why.html").read_text().startswith("<!doctype html>")
    assert json.loads((tmp_path / "why.json").read_bytes())["model_name"] == MNIST.name
    assert main(["explain", MNIST.name, str(picture), "-p", "method=saliency", "-p", "target=3", "--url", server.url]) == 0
    assert json.loads(capsys.readouterr().out)["explanations"][0]["target"]["label"] == "3"


def test_a_sound_file_is_predicted_explained_and_drawn(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sound = str(bundle_named("fsdd-cnn").folder / "sample.wav")
    assert main(["predict", "fsdd-cnn", sound, "--url", server.url]) == 0
    assert json.loads(capsys.readouterr().out)["label"] == "7"
    for suffix, magic in ((".png", b"\x89PNG"), (".html", b"<!doctype html>"), (".json", b"{")):
        out = tmp_path / f"why{suffix}"
        assert main(["explain", "fsdd-cnn", sound, "-p", "method=saliency", "--output", str(out), "--url", server.url]) == 0
        assert out.read_bytes().startswith(magic)


def test_a_terminal_shows_words_in_colour_and_the_figures(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["explain", "sst2-gru", SENTENCES[0], "-p", "method=integrated_gradients,saliency", "--url", server.url]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Why positive (")
    assert "\x1b[48;2;" in shown
    assert "for positive" in shown
    assert "rank correlation" in shown


def test_explain_without_a_server(picture: Path, tmp_path: Path):
    ended = whyserve("explain", MNIST.name, str(picture), "-o", str(tmp_path / "why.png"))
    assert ended.returncode == 0, ended.stderr
    with Image.open(tmp_path / "why.png") as drawn:
        assert drawn.size == (28, 28)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("predict", "nope", "{picture}", "--url", "{url}"), "no model named 'nope'"),
        (("predict", "mnist-cnn/9", "{picture}", "--url", "{url}"), "no version '9'"),
        (("predict", "mnist-cnn", "absent.png", "--url", "{url}"), "no file 'absent.png'"),
        (("predict", "mnist-cnn", "{picture}", "-p", "colour=red", "--url", "{url}"), "colour"),
        (("predict", "sst2-gru", "{picture}", "--url", "{url}"), "text"),
        (("explain", "mnist-cnn", "{picture}", "-p", "method=magic", "--url", "{url}"), "integrated_gradients"),
        (("explain", "mnist-cnn", "{picture}", "-o", "/nonexistent/why.png", "--url", "{url}"), "/nonexistent/why.png"),
        (("explain", "mnist-cnn", "{picture}", "-o", "why.gif", "--url", "{url}"), ".png"),
        (("explain", "sst2-gru", "fun", "-o", "why.png", "--url", "{url}"), "text/html"),
        (("models", "--url", "http://127.0.0.1:9"), "no answer from http://127.0.0.1:9"),
        (("models", "--url", "127.0.0.1"), "no answer"),
        (("models", "--url", "http://[::1"), "no answer"),
        (("models", "--models", "/nonexistent"), "/nonexistent"),
        (("predict", "nope", "{picture}", "--models", "models"), "no model named 'nope'"),
    ],
)
def test_an_error_is_one_line_and_status_2(
    arguments: tuple[str, ...],
    words: str,
    server: Server,
    picture: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(ROOT)
    assert main([argument.format(picture=picture, url=server.url) for argument in arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1
    assert said.err.startswith("whyserve: ")
    assert words in said.err

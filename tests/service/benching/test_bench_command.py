"""`whyserve bench` against real servers: a bundle of its own, a URL, and what it says when something is wrong."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from support import ROOT, Server, started

from service.cli import main


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_a_bundle_is_measured_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "bench.png"
    assert main(["bench", "wine-mlp", "--seconds", "0.1", "--json", "--picture", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [level["concurrency"] for level in found["levels"]][:3] == [1, 2, 4]
    for load in (*found["levels"], found["open_loop"]):
        assert load["requests"] > 0
        assert load["failures"] == {}
        assert 0 < load["p50_ms"] <= load["p90_ms"] <= load["p99_ms"] <= load["max_ms"]
    assert found["open_loop"]["due_per_second"] == pytest.approx(found["knee"]["requests_per_second"] / 2)
    with Image.open(BytesIO(out.read_bytes())) as image:
        assert image.format == "PNG"


@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_a_running_server_is_measured(verb: str, server: Server, capsys: pytest.CaptureFixture[str]):
    arguments = ["bench", server.url, "--model", "mnist-cnn", "--verb", verb, "--body", "models/mnist-cnn/1/sample.png", "--seconds", "0.2"]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"mnist-cnn :{verb}\n")
    assert "knee: " in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["http://127.0.0.1:1"], "no answer from http://127.0.0.1:1"),
        (["ftp://127.0.0.1"], "ftp://127.0.0.1"),
        (["nothing"], "no model named 'nothing'"),
        (["wine-mlp", "--body", "nowhere.png"], "No such file"),
        (["wine-mlp", "--picture", "bench.jpg"], "ends in .png"),
        (["wine-mlp", "--model", "other"], "--model goes with a URL"),
    ],
)
def test_a_mistake_is_said_in_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]):
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


def test_an_unknown_model_of_a_server(server: Server, capsys: pytest.CaptureFixture[str]):
    assert main(["bench", server.url, "--model", "nothing", "--body", "models/mnist-cnn/1/sample.png"]) == 2
    assert "404" in capsys.readouterr().err


def test_a_missing_key_and_the_right_one(capsys: pytest.CaptureFixture[str]):
    with started("--explainers", "0", "--api-keys", "secret") as server:
        asked = ["bench", server.url, "--model", "wine-mlp", "--seconds", "0.05"]
        assert main(asked) == 2
        assert "401" in capsys.readouterr().err
        assert main([*asked, "--key", "secret"]) == 0

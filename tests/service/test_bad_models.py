"""Broken and hostile ONNX files: refused with the reason by the server, which goes on, and by `whyserve add`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from bad_models import CHAIN, WORDS, write_all
from support import ROOT, bundle_named, started

from service.cli import main

GOOD = bundle_named("wine-perceptron")
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Refusing:
    index: dict[str, dict[str, Any]]
    client: httpx.Client
    memory: int
    seconds: float


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bad")
    write_all(root)
    (root / GOOD.name).symlink_to(GOOD.folder.parent)
    return root


@pytest.fixture(scope="module")
def refusing(repository: Path) -> Iterator[Refusing]:
    began = time.monotonic()
    with started("--models", str(repository), "--explainers", "1") as server, httpx.Client(base_url=server.url, timeout=70) as client:
        seconds = time.monotonic() - began
        index = {entry["name"]: entry for entry in client.post("/v2/repository/index").json()}
        yield Refusing(index, client, psutil.Process(server.process.pid).memory_info().rss, seconds)


@pytest.mark.parametrize("name", WORDS)
def test_the_server_refuses_it_and_says_why(name: str, refusing: Refusing):
    entry = refusing.index[name]
    assert entry["state"] == "UNAVAILABLE"
    assert WORDS[name].lower() in entry["reason"].lower()
    for inside in ("onnxruntime_src", "/tmp", str(ROOT), "/etc", ".cc", "::"):
        assert inside not in entry["reason"]
    assert len(entry["reason"]) < 500
    assert refusing.client.get(f"/v2/models/{name}/ready").status_code == 503
    assert refusing.client.post(f"/v1/models/{name}:predict", json={"instances": [[1, 2, 3]]}).status_code == 503


def test_the_others_are_served_and_explained(refusing: Refusing):
    for verb in ("predict", "explain"):
        response = refusing.client.post(f"{GOOD.v1}:{verb}", json={"instances": [GOOD.instance()]})
        assert response.status_code == 200, response.text
    assert refusing.client.get("/v2/health/ready").status_code == 200


def test_it_takes_neither_long_nor_much_memory(refusing: Refusing):
    assert refusing.seconds < 30
    assert refusing.memory < 600 * MEBIBYTE


def test_a_long_chain_is_served_and_explained(refusing: Refusing):
    """10,000 nodes, one behind the other: no recursion is as deep."""
    assert refusing.index["chain"]["state"] == "READY"
    response = refusing.client.post("/v1/models/chain:predict", json={"instances": [[1, -2, 3]]})
    assert response.json()["predictions"] == [{"y": [1, 0, 3]}]
    response = refusing.client.post("/v1/models/chain:explain", json={"instances": [[1, -2, 3]], "parameters": {"target": 2}})
    assert response.status_code == 200, f"{CHAIN} nodes: {response.text[:300]}"
    (explanation,) = response.json()["explanations"]
    assert explanation["attributions"] == pytest.approx([0, 0, 3], abs=1e-5)


@pytest.mark.parametrize("name", WORDS)
def test_add_refuses_it_and_says_why(name: str, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    began = time.monotonic()
    assert main(["add", str(repository / name / "1" / "model.onnx"), "--name", "m", "--models", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("whyserve: ")
    assert len(said.strip().splitlines()) == 1
    assert WORDS[name].lower() in said.lower()
    assert time.monotonic() - began < 20
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_add_takes_a_long_chain(repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["add", str(repository / "chain" / "1" / "model.onnx"), "--name", "m", "--models", str(tmp_path)]) == 0
    assert "with gradients" in capsys.readouterr().out

"""The process as operators meet it: started, stopped by a signal, misconfigured, with broken bundles and dying explainers."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from support import BUNDLES, ROOT, Server, bundle_named, digit, is_error, png, started

TABLES = bundle_named("wine-perceptron")
BODY = {"instances": [TABLES.instance()]}
PREDICT = f"{TABLES.v1}:predict"
QUIET = ("--explainers", "0")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of its own with one good bundle."""
    folder = tmp_path / "models"
    shutil.copytree(TABLES.folder, folder / TABLES.name / "1")
    return folder


def run(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WHYSERVE_")}
    command = [sys.executable, "-m", "service.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, env=clean | (environment or {}), capture_output=True, text=True, timeout=60, check=False)


# -------------------------------------------------------------------------------------------------------------------- start


def test_it_says_where_it_listens_what_it_serves_and_a_curl_line_that_works(server: Server, tmp_path: Path):
    assert "/docs" in server.announcement
    for bundle in BUNDLES:
        assert f"{bundle.name}/{bundle.version}" in server.announcement
    for line in server.announcement.splitlines():
        if line.strip().startswith("curl"):
            command = shlex.split(line.replace("why.png", str(tmp_path / "why.png")))
            answer = subprocess.run([*command, "--silent", "--fail"], cwd=ROOT, capture_output=True, timeout=60, check=False)
            assert answer.returncode == 0, line


def test_service_links_of_kubernetes_do_not_stop_it():
    links = {
        "WHYSERVE_PORT": "tcp://10.0.0.7:8080",
        "WHYSERVE_SERVICE_HOST": "10.0.0.7",
        "WHYSERVE_SERVICE_PORT": "8080",
        "WHYSERVE_SERVICE_PORT_HTTP": "8080",
        "WHYSERVE_PORT_8080_TCP": "tcp://10.0.0.7:8080",
        "WHYSERVE_PORT_8080_TCP_ADDR": "10.0.0.7",
        "WHYSERVE_EXPLAINER_PORT": "tcp://10.0.0.8:8081",
        "WHYSERVE_EXPLAINER_SERVICE_HOST": "10.0.0.8",
    }
    with started(*QUIET, environment=links) as server:
        assert httpx.post(server.url + PREDICT, json=BODY).status_code == 200


def test_settings_from_the_environment(repository: Path):
    with started(environment={"WHYSERVE_MODELS": str(repository), "WHYSERVE_EXPLAINERS": "0", "WHYSERVE_API_KEYS": "a,b"}) as server:
        is_error(httpx.post(server.url + PREDICT, json=BODY), 401)
        assert httpx.post(server.url + PREDICT, json=BODY, headers={"x-api-key": "b"}).status_code == 200


@pytest.mark.parametrize(
    ("environment", "options", "words"),
    [
        ({"WHYSERVE_COLOUR": "red"}, (), "WHYSERVE_COLOUR"),
        ({"WHYSERVE_PORT": "many"}, (), "WHYSERVE_PORT"),
        ({"WHYSERVE_DEVICE": "tpu"}, (), "WHYSERVE_DEVICE"),
        ({"WHYSERVE_API_KEYS_FILE": "/nonexistent/keys"}, (), "WHYSERVE_API_KEYS_FILE"),
        ({}, ("--models", "/nonexistent"), "/nonexistent"),
        ({}, ("--device", "cuda"), "WHYSERVE_DEVICE=cpu"),
        ({}, ("--timeout", "-1"), "timeout"),
        ({}, ("--host", "nowhere.invalid"), "nowhere.invalid"),
    ],
)
def test_a_setting_that_is_wrong_is_one_line_and_status_2(environment: dict[str, str], options: tuple[str, ...], words: str):
    port = () if "WHYSERVE_PORT" in environment else ("--port", "0")
    ended = run("serve", *port, *options, environment=environment)
    assert ended.returncode == 2
    assert len(ended.stderr.strip().splitlines()) == 1
    assert words in ended.stderr
    assert ended.stdout == ""


def test_a_port_that_is_taken_is_one_line_and_status_2():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = run("serve", *QUIET, "--port", str(taken.getsockname()[1]))
    assert ended.returncode == 2
    assert "in use" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


# --------------------------------------------------------------------------------------------------------------------- stop


def test_sigterm_loses_no_request():
    with started(*QUIET, "--grace", "1.5") as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/v2/health/ready").status_code == 200
        assert "connection" not in client.post(PREDICT, json=BODY).headers
        server.process.send_signal(signal.SIGTERM)
        stopped = time.monotonic()
        while client.get("/v2/health/ready").status_code == 200:
            assert time.monotonic() - stopped < 0.5, "still ready"
        not_ready = client.get("/v2/health/ready")
        assert not_ready.status_code == 503
        assert not_ready.headers["retry-after"]
        assert not_ready.json()["error"] == "the server is stopping"
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/ping").status_code == 503
        late = client.post(PREDICT, json=BODY)
        assert late.status_code == 200
        assert late.headers["connection"] == "close"
        assert server.process.wait(10) == 0
        assert time.monotonic() - stopped >= 1.4
        assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("signals", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT,)])
def test_a_second_signal_and_sigint_skip_the_grace_period(signals: tuple[signal.Signals, ...]):
    with started(*QUIET, "--grace", "60") as server:
        for number in signals:
            server.process.send_signal(number)
            time.sleep(0.2)
        assert server.process.wait(10) == 0
        assert "Traceback" not in server.log.read_text()


# ---------------------------------------------------------------------------------------------------------------- explainers


def explainers(server: Server, others_than: int | None = None, seconds: float = 30) -> list[psutil.Process]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = [child for child in psutil.Process(server.process.pid).children() if child.pid != others_than]
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("no explainer")


def test_explainers_are_replaced_and_end_with_their_server(repository: Path):
    bare = repository / "bare" / "3"
    bare.mkdir(parents=True)
    shutil.copy(TABLES.folder / "model.onnx", bare)
    with started("--models", str(repository)) as server, httpx.Client(base_url=server.url, timeout=70) as client:
        explains_a_bare_model(client)
        (first,) = explainers(server)
        first.kill()
        first.wait(5)
        assert client.post(PREDICT, json=BODY).status_code == 200
        assert client.post(f"{TABLES.v1}:explain", json=BODY).status_code == 200
        (second,) = explainers(server, others_than=first.pid)
        assert client.get("/v2/health/ready").status_code == 200
        server.process.kill()
        server.process.wait()
        gone, alive = psutil.wait_procs([second], 10)
        assert (len(gone), alive) == (1, [])


def explains_a_bare_model(client: httpx.Client) -> None:
    """Tensors in and out; the difference from zeros by ONNX Runtime."""
    answer = client.post("/v1/models/bare:predict", json=BODY).json()
    assert answer["model_version"] == "3"
    scores, zeros = TABLES.run(TABLES.row())["logits"], TABLES.run({"row": np.zeros(11, np.float32)})["logits"]
    np.testing.assert_allclose(answer["predictions"][0]["logits"], scores, rtol=1e-5)
    explained = client.post("/v1/models/bare:explain", json=BODY | {"parameters": {"target": 1}})
    assert explained.status_code == 200, explained.text
    (explanation,) = explained.json()["explanations"]
    assert sum(explanation["attributions"]) == pytest.approx(scores[1] - zeros[1], rel=0.01, abs=0.01)


# ------------------------------------------------------------------------------------------------------------------- bundles


def broken(repository: Path, name: str, manifest: str | None = "format: 1\n", model: bytes = b"no onnx") -> None:
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model)
    if manifest is not None:
        (folder / "model.yaml").write_text(manifest)


def test_broken_bundles_do_not_stop_the_others(repository: Path):
    broken(repository, "no-manifest", None)
    broken(repository, "half-manifest")
    broken(repository, "no-yaml", "a: [1, 2")
    broken(repository, "list-manifest", "- 1\n")
    broken(repository, "binary-manifest", "")
    (repository / "binary-manifest" / "1" / "model.yaml").write_bytes(b"\xff\xfe\x00\x80")
    (repository / "empty" / "1").mkdir(parents=True)
    (repository / "stray.txt").write_text("not a model")
    (repository / "no-version").mkdir()
    shutil.copytree(TABLES.folder, repository / "tampered" / "1")
    with (repository / "tampered" / "1" / "model.onnx").open("ab") as file:
        file.write(b"x")
    shutil.copytree(TABLES.folder, repository / "wrong-answers" / "1")
    golden = repository / "wrong-answers" / "1" / "golden.json"
    golden.write_text(golden.read_text().replace('"index": 0', '"index": 1'))
    manifest = repository / "wrong-answers" / "1" / "model.yaml"
    manifest.write_text(manifest.read_text().replace(TABLES.manifest.files["golden.json"], sha256(golden)))
    with started(*QUIET, "--models", str(repository)) as server, httpx.Client(base_url=server.url) as client:
        assert client.post(PREDICT, json=BODY).status_code == 200
        assert client.get("/v2/health/ready").status_code == 200
        index = {entry["name"]: entry for entry in client.post("/v2/repository/index").json()}
        assert index.pop(TABLES.name)["state"] == "READY"
        reasons = {
            "no-manifest": "ONNX Runtime refuses",
            "half-manifest": "model.yaml",
            "no-yaml": "no YAML",
            "list-manifest": "model.yaml",
            "binary-manifest": "model.yaml",
            "empty": "model.onnx is missing",
            "tampered": "sha256",
            "wrong-answers": "golden request 0 is answered differently",
        }
        assert index.keys() == reasons.keys()
        for name, entry in index.items():
            assert entry["state"] == "UNAVAILABLE"
            assert reasons[name] in entry["reason"], entry
            assert str(repository) not in entry["reason"]
            asked = (
                client.get(f"/v1/models/{name}"),
                client.get(f"/v2/models/{name}/ready"),
                client.post(f"/v1/models/{name}:predict", json=BODY),
            )
            for response in asked:
                is_error(response, 503, reasons[name][:10])
                assert response.headers["retry-after"]
            assert name in server.announcement
            assert f'whyserve_model_ready{{model_name="{name}",model_version="1"}} 0.0' in client.get("/metrics").text


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_strict_ready_and_an_empty_repository(repository: Path, tmp_path: Path):
    broken(repository, "broken")
    (tmp_path / "empty").mkdir()
    for options in (("--models", str(repository), "--strict-ready", "true"), ("--models", str(tmp_path / "empty"))):
        with started(*QUIET, *options) as server:
            response = httpx.get(server.url + "/v2/health/ready")
            is_error(response, 503)
            assert response.headers["retry-after"]
            assert httpx.get(server.url + "/v2/health/live").status_code == 200


def test_one_bundle_as_kserve_mounts_it(tmp_path: Path):
    mnist = bundle_named("mnist-cnn")
    shutil.copytree(mnist.folder, tmp_path / "mounted")
    options = ("--models", str(tmp_path / "mounted"), "--model_name", "mine")
    with started(*options) as server, httpx.Client(base_url=server.url, timeout=70) as client:
        assert client.get("/v1/models").json() == {"models": ["mine"]}
        best = int(mnist.probabilities(mnist.row(0)).argmax())
        assert client.post("/v1/models/mine:predict", content=png(digit(0))).json()["predictions"][0]["index"] == best
        assert client.post("/v1/models/mine:explain", content=png(digit(0)), params={"method": "saliency"}).status_code == 200

"""One of the servers that people use: how it is installed, started and asked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

_HERE = Path(__file__).parent
APPS = _HERE / "apps"
MODEL_NAME = "mnist-cnn"


@dataclass(frozen=True, slots=True)
class Started:
    """What is run in a scratch folder, with what beside the environment."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Peer:
    """`start` takes the folder of its programs, a port, the `model.onnx` and a scratch folder."""

    name: str
    path: str
    """Where it answers."""
    start: Callable[[Path, int, Path, Path], Started]
    installed: str | None = None
    """Its requirements file; None: this project's own environment."""
    processes: str = "1"
    """That it has by default where it is told to have one worker."""
    body: Callable[[Any], Any] = lambda rows: {"instances": rows}
    """The document of rows (nested lists)."""
    scores: Callable[[Any], Any] = lambda answer: answer["predictions"]
    """Nested lists (1, 10), from an answer's document."""

    def request_body(self, rows: Any) -> bytes:
        return orjson.dumps(self.body(rows))


def environments() -> Path:
    """Where the peers' virtual environments are."""
    return Path(os.environ.get("BENCH_PEERS") or Path.home() / ".cache" / "whyserve" / "peers")


def programs(peer: Peer, root: Path) -> Path:
    """The folder of a peer's programs; its environment is made where there is none. Raises RuntimeError with pip's last words."""
    if peer.installed is None:
        return Path(sys.executable).parent
    wanted = _HERE / "requirements" / peer.installed
    folder = root / wanted.stem
    made = folder / "made-of.txt"
    if not made.exists() or made.read_text() != wanted.read_text():
        shutil.rmtree(folder, ignore_errors=True)
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [str(folder / "bin" / "pip"), "install", "--quiet", "--requirement", str(wanted)],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"not installed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
        made.write_text(wanted.read_text())
    return folder / "bin"


def _app(name: str) -> Callable[[Path, int, Path, Path], Started]:
    return lambda programs, port, model, _: Started([str(programs / "python"), str(APPS / f"{name}.py"), str(port), str(model)])


def _mlserver(programs: Path, port: int, model: Path, scratch: Path) -> Started:
    shutil.copy(APPS / "mlserver_app.py", scratch)
    # 0: in the server's own process; any other number makes a process for each and a queue between them
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": port + 1,
        "metrics_port": port + 2,
        "parallel_workers": 0,
        "debug": False,
    }
    (scratch / "settings.json").write_text(json.dumps(settings))
    own = {"name": MODEL_NAME, "implementation": "mlserver_app.Mnist", "parameters": {"uri": str(model)}}
    (scratch / "model-settings.json").write_text(json.dumps(own))
    return Started([str(programs / "mlserver"), "start", str(scratch)], {"PYTHONPATH": str(scratch)})


def _torchserve(programs: Path, port: int, model: Path, scratch: Path) -> Started:
    store = scratch / "store"
    store.mkdir()
    archive = ["--model-name", MODEL_NAME, "--version", "1", "--serialized-file", str(model), "--export-path", str(store)]
    subprocess.run(
        [str(programs / "torch-model-archiver"), *archive, "--handler", str(APPS / "torchserve_app.py")], check=True, capture_output=True
    )
    addresses = {"inference": port, "management": port + 1, "metrics": port + 2}
    lines = [f"{name}_address=http://127.0.0.1:{number}" for name, number in addresses.items()]
    (scratch / "config.properties").write_text(
        "\n".join([*lines, f"grpc_inference_port={port + 3}", f"grpc_management_port={port + 4}", "default_workers_per_model=1"])
    )
    command = [str(programs / "torchserve"), "--start", "--foreground", "--ncs", "--disable-token-auth", "--model-store", str(store)]
    chosen = ["--models", f"{MODEL_NAME}={MODEL_NAME}.mar", "--ts-config", str(scratch / "config.properties")]
    environment = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "LOG_LOCATION": str(scratch), "METRICS_LOCATION": str(scratch)}
    return Started([*command, *chosen], environment)


def _bentoml(programs: Path, port: int, model: Path, scratch: Path) -> Started:
    command = [
        str(programs / "bentoml"),
        "serve",
        "bentoml_app:Mnist",
        "--working-dir",
        str(APPS),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    environment = {"MODEL": str(model), "BENTOML_HOME": str(scratch), "BENTOML_DO_NOT_TRACK": "True", "PYTHONPATH": str(APPS)}
    return Started(command, environment)


def _v2(rows: Any) -> Any:
    return {"inputs": [{"name": "image", "shape": [len(rows), 1, 28, 28], "datatype": "FP32", "data": rows}]}


THREADS = Peer("FastAPI, thread pool", "/predict", _app("thread_pool"))
PEERS = (
    THREADS,
    Peer("KServe SDK 0.21.0", f"/v1/models/{MODEL_NAME}:predict", _app("kserve_app"), "kserve.txt"),
    Peer("LitServe 0.2.19", "/predict", _app("litserve_app"), "litserve.txt", "2: server, worker"),
    Peer(
        "MLServer 1.7.1",
        f"/v2/models/{MODEL_NAME}/infer",
        _mlserver,
        "mlserver.txt",
        body=_v2,
        scores=lambda answer: [answer["outputs"][0]["data"]],
    ),
    Peer("TorchServe 0.12.0", f"/predictions/{MODEL_NAME}", _torchserve, "torchserve.txt", "2: Java server, worker"),
    Peer("BentoML 1.4.39", "/predict", _bentoml, "bentoml.txt", "2: supervisor, worker"),
)

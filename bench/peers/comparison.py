"""`:predict` of mnist-cnn, JSON, against the servers that people use: all on one core, this process on another, in turns.

`python -m bench peers`: the peers' environments (3 GB) are made where BENCH_PEERS says, by default in the user's cache folder; one
that can't be installed or started is left out, with the reason.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import httpx
import numpy as np
import onnxruntime as ort
import psutil

from bench.peers.peer import MODEL_NAME, PEERS, THREADS, Peer, environments, programs
from bench.samples import pixels
from bench.servers import MODELS, cores, serving
from bench.table import markdown
from service.benching.load import Load, http_request, run_load
from service.manifest import MODEL_FILE

OURS = "whyserve"
_CONCURRENCIES = (1, 8, 32)
_ROUNDS, _SECONDS = 5, 0.4
_PATIENCE = 90.0
"""Seconds for a server to answer for the first time."""
_MODEL = (MODELS / MODEL_NAME / "1" / MODEL_FILE).resolve()


@dataclass(frozen=True, slots=True)
class Contender:
    """A server that runs and answers rightly. `processes`: that it consists of."""

    name: str
    processes: str
    port: int
    request: bytes


def report(rounds: int = _ROUNDS, concurrencies: Sequence[int] = _CONCURRENCIES) -> str:
    """A table a concurrency, and who was left out."""
    server_core, load_core = cores()
    root, rows = environments(), pixels(1)
    left_out: list[str] = []
    with ExitStack() as stack:
        contenders = []
        for peer in PEERS:
            try:
                contenders.append(stack.enter_context(_running(peer, programs(peer, root), server_core, rows)))
            except (RuntimeError, TimeoutError, OSError, subprocess.CalledProcessError) as error:
                left_out.append(f"- {peer.name}: {error}")
        ours = stack.enter_context(serving(core=server_core))
        body = THREADS.request_body(rows.tolist())
        contenders.append(Contender(OURS, "1", ours.port, http_request(f"/v1/models/{MODEL_NAME}:predict", body, "application/json")))
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {load_core})
        try:
            found = {c: _measured(contenders, c, rounds) for c in concurrencies}
        finally:
            os.sched_setaffinity(0, allowed)
    text = (
        f"`:predict` of mnist-cnn, JSON bodies of {len(body)} bytes, batching off but for whyserve, servers on one core in turns: "
        f"medians of {rounds} rounds of {_SECONDS:g} s\n\n" + table(found, {c.name: c.processes for c in contenders})
    )
    return text + ("\n\nLeft out:\n" + "\n".join(left_out) if left_out else "")


def table(found: dict[int, dict[str, list[Load]]], processes: dict[str, str]) -> str:
    """From loads by concurrency and name: requests a second, multiples of the thread pool's in the same round, latencies."""
    rows = []
    for concurrency, loads in found.items():
        for name, rounds in loads.items():
            multiples = [one.rate / pool.rate for one, pool in zip(rounds, loads[THREADS.name], strict=True)]
            percentiles = (median(one.percentile(p) * 1e3 for one in rounds) for p in (50, 99))
            rows.append((concurrency, name, processes[name], round(median(one.rate for one in rounds)), median(multiples), *percentiles))
    return markdown(("concurrency", "server", "processes", "requests/s", "x thread pool", "p50 ms", "p99 ms"), rows)


def _measured(contenders: Sequence[Contender], concurrency: int, rounds: int) -> dict[str, list[Load]]:
    loads: dict[str, list[Load]] = {one.name: [] for one in contenders}
    for turn in range(rounds + 1):
        for one in contenders:
            load = run_load(one.port, one.request, concurrency, _SECONDS)
            if turn:  # the first one warms up
                loads[one.name].append(load)
    return loads


@contextmanager
def _running(peer: Peer, where: Path, core: int, rows: np.ndarray) -> Iterator[Contender]:
    """The peer on a core, once it answers as ONNX Runtime does. Raises TimeoutError, RuntimeError where it ends or answers otherwise."""
    scratch = Path(tempfile.mkdtemp(prefix="peer-"))
    try:
        port = _free_ports(5)
        started = peer.start(where, port, _MODEL, scratch)
        body = peer.request_body(rows.tolist())
        with (scratch / "log").open("wb") as log:
            process = subprocess.Popen(
                started.command,
                cwd=scratch,
                env=os.environ | {"OMP_NUM_THREADS": "1"} | started.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=partial(os.sched_setaffinity, 0, {core}),  # before it starts others
            )
        try:
            _answers_rightly(peer, process, port, body, rows)
            yield Contender(peer.name, peer.processes, port, http_request(peer.path, body, "application/json"))
        finally:
            _stop(process)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _answers_rightly(peer: Peer, process: subprocess.Popen[bytes], port: int, body: bytes, rows: np.ndarray) -> None:
    """Waits for the first answer and compares it."""
    end, last = time.perf_counter() + _PATIENCE, "no answer"
    while time.perf_counter() < end:
        if process.poll() is not None:
            raise RuntimeError(f"ended with status {process.returncode}")
        try:
            answer = httpx.post(
                f"http://127.0.0.1:{port}{peer.path}", content=body, headers={"content-type": "application/json"}, timeout=10
            )
            last = f"{answer.status_code} {answer.text[:200]}"
            if answer.status_code == 200:
                break
        except httpx.TransportError as error:
            last = str(error)
        time.sleep(0.5)
    else:
        raise TimeoutError(f"not ready within {_PATIENCE:g} s: {last}")
    (wanted,) = ort.InferenceSession(_MODEL, providers=["CPUExecutionProvider"]).run(None, {"image": rows})
    if not np.allclose(np.reshape(peer.scores(answer.json()), (1, -1)), wanted, rtol=1e-4, atol=1e-4):
        raise RuntimeError(f"answers wrongly: {last}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """The process and all that it started."""
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    _, alive = psutil.wait_procs(children, timeout=10)
    for child in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()


def _free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    while True:
        with ExitStack() as stack, contextlib.suppress(OSError, OverflowError):
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            for further in range(1, count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port + further))
            return port

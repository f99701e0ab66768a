"""Starts the server that is measured, on a core of its own, as a user would start it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

MODELS = Path("models")


@dataclass(frozen=True, slots=True)
class Running:
    """A started server. `started` is the clock (`time.perf_counter`) just before its process was made."""

    port: int
    process: psutil.Process
    started: float

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def explainers(self) -> list[psutil.Process]:
        return [child for child in self.process.children() if "service.explain.process" in " ".join(child.cmdline())]


def cores() -> tuple[int, int]:
    """The core for the server and the core for the load generator; one and the same where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


@contextmanager
def serving(
    *, core: int | None = None, module: str = "service.cli", explainers: int = 0, ready: bool = True, models: Path = MODELS
) -> Iterator[Running]:
    """The server of `module` (default: `whyserve serve`) on a free port, stopped at the end."""
    port = _free_port()
    command = [sys.executable, "-m", module, "serve", "--port", str(port), "--models", str(models), "--explainers", str(explainers)]
    started = time.perf_counter()
    environment = os.environ | {"WHYSERVE_EXPLANATION_CACHE_MIB": "0"}  # what is measured is the computing
    process = psutil.Popen([*command, "--grace", "0", "--log-level", "error"], stdout=subprocess.DEVNULL, env=environment)
    try:
        if core is not None:
            _keep_on(process, core)
        running = Running(port, process, started)
        if ready:
            wait_ready(running)
        yield running
    finally:
        _end(process)


@contextmanager
def process_on(core: int, module: str, *arguments: str) -> Iterator[Running]:
    """`python -m MODULE PORT ..` on a core, from when its port answers; stopped at the end. Raises as `wait_ready` does."""
    port, started = _free_port(), time.perf_counter()
    process = psutil.Popen([sys.executable, "-m", module, str(port), *arguments], stdout=subprocess.DEVNULL)
    try:
        _keep_on(process, core)
        running = Running(port, process, started)
        _until(running, lambda: httpx.get(running.url).status_code < 500, 60)
        yield running
    finally:
        _end(process)


def _keep_on(process: psutil.Popen, core: int) -> None:
    with suppress(psutil.NoSuchProcess):  # it has ended at once: whoever waits until it answers says so
        process.cpu_affinity([core])


def _end(process: psutil.Popen) -> None:
    with suppress(psutil.NoSuchProcess):  # it has ended by itself
        process.terminate()
        try:
            process.wait(20)
        except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
            process.kill()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def wait_ready(running: Running, seconds: float = 60) -> None:
    """Returns once `/v2/health/ready` is 200. Raises TimeoutError, or RuntimeError where the process has ended."""
    _until(running, lambda: httpx.get(f"{running.url}/v2/health/ready").status_code == 200, seconds)


def _until(running: Running, answers: Callable[[], bool], seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        if running.process.poll() is not None:
            raise RuntimeError(f"the server ended with status {running.process.returncode}")
        try:
            if answers():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    raise TimeoutError(f"not ready within {seconds} s")


def copied_models(root: Path) -> Path:
    """A repository of its own with the committed bundles, to which others can be added."""
    models = root / "models"
    shutil.copytree(MODELS, models)
    return models

"""Binary tensors (V2) of a large network: against ONNX Runtime alone with the same threads, on the same core.

A large batch in one request shows what the protocol and its copies cost; requests of one picture each, several at once, show
what batching makes of them. `python -m bench.tensors --rounds 2` for a quick look.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

import numpy as np
import onnxruntime as ort

from bench import resnet
from bench.servers import Running, cores, serving
from bench.table import markdown
from bench.timing import quartiles
from service.benching.load import http_request, run_load
from service.codecs.v2 import InferRequest, encode_request
from service.manifest import MODEL_FILE

_ROUNDS = 11
_LARGE = 32
"""Rows of the large request."""
_AT_ONCE = 4
_SECONDS, _LARGE_SECONDS = 1.2, 2.5
"""Of load a measurement: several answers of the large request, which takes most of a second."""


_IDLE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class _Round:
    """Images a second, each measured right after the other."""

    large: float
    large_alone: float
    small: float
    alone: dict[int, float]
    """ONNX Runtime's, by rows a run."""


class _Alone:
    """The network in ONNX Runtime with its default options, on as many threads as the server: one."""

    def __init__(self, model: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def rate(self, pictures: np.ndarray, rows: int, seconds: float) -> float:
        """Images a second in runs of `rows`."""
        feeds, done = {"image": pictures[:rows]}, 0
        self._session.run(None, feeds)  # after the server's turn the caches hold the server's weights
        started = perf_counter()
        while (passed := perf_counter() - started) < seconds:
            self._session.run(None, feeds)
            done += rows
        return done / passed


def report(rounds: int = _ROUNDS) -> str:
    """One table: images a second through the server and without it, and their ratio in the same round."""
    with tempfile.TemporaryDirectory() as folder:
        return _report(resnet.write_bundle(Path(folder)), Path(folder), rounds)


def _report(bundle: Path, models: Path, rounds: int) -> str:
    server_core, load_core = cores()
    pictures = resnet.pictures(_LARGE)
    alone, path = _Alone(bundle / MODEL_FILE), f"/v2/models/{resnet.NAME}/infer"
    large, small = _infer(path, pictures), _infer(path, pictures[:1])
    with serving(core=server_core, models=models) as server:

        def without(rows: int, seconds: float) -> float:
            _wait_idle(server)  # it computes what the load generator left unanswered, on the core that is measured next
            os.sched_setaffinity(0, {server_core})  # it is measured where the server computes
            rate = alone.rate(pictures, rows, seconds)
            os.sched_setaffinity(0, {load_core})
            return rate

        def served(request: bytes, rows: int, concurrency: int, seconds: float) -> float:
            latencies = run_load(server.port, request, concurrency, seconds).latencies
            if not latencies:
                raise TimeoutError(f"no answer within {seconds} s")
            return concurrency * rows * len(latencies) / sum(latencies)  # what is under way at the end counts neither way

        os.sched_setaffinity(0, {load_core})
        found = [
            _Round(
                served(large, _LARGE, 1, _LARGE_SECONDS),
                without(_LARGE, _LARGE_SECONDS),
                served(small, 1, _AT_ONCE, _SECONDS),
                {rows: without(rows, _SECONDS / _AT_ONCE) for rows in range(1, _AT_ONCE + 1)},
            )
            for _ in range(rounds)
        ]
    return _table(found)


def _wait_idle(server: Running) -> None:
    """Returns once the server's process has used next to no processor time for a moment."""
    while True:
        before = sum(server.process.cpu_times()[:2])
        sleep(_IDLE_SECONDS)
        if sum(server.process.cpu_times()[:2]) - before < _IDLE_SECONDS / 4:
            return


def _table(found: list[_Round]) -> str:
    header = ("request", "against ONNX Runtime alone, rows a run", "images/s", "alone", "ratio")
    rows = [
        (f"{_LARGE} rows, one at a time", str(_LARGE), *_cells([(r.large, r.large_alone) for r in found])),
        *(
            (f"1 row, {_AT_ONCE} at a time", str(count), *_cells([(r.small, r.alone[count]) for r in found]))
            for count in range(1, _AT_ONCE + 1)
        ),
        (f"1 row, {_AT_ONCE} at a time", "the fastest of these", *_cells([(r.small, max(r.alone.values())) for r in found])),
    ]
    return (
        f"V2 infer with binary tensors, {resnet.NAME} 3x{resnet.SIZE}x{resnet.SIZE}, server and load generator on one core each "
        f"(median and quartiles of {len(found)} rounds)\n\n" + markdown(header, rows)
    )


def _cells(pairs: list[tuple[float, float]]) -> tuple[str, str, str]:
    return (
        quartiles([served for served, _ in pairs]),
        quartiles([alone for _, alone in pairs]),
        quartiles([served / alone for served, alone in pairs]),
    )


def _infer(path: str, pictures: np.ndarray) -> bytes:
    """The bytes of an infer request with these rows, its output asked for as binary data."""
    body, header_length = encode_request(InferRequest({"image": pictures}, binary_default=True))
    return http_request(path, body, "application/octet-stream", {"inference-header-content-length": str(header_length)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.tensors", description=__doc__)
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    print(report(parser.parse_args().rounds))

"""`:predict` of a small network, PNG and JSON bodies: against what its parts cost alone, a constant route, and a plain first service.

The composed limit is 1 / (a plain ASGI route + decoding + ONNX Runtime a row at the batch that was reached): each part is
measured alone, on the server's core, in the same round. `python -m bench.predict --rounds 3` for a quick look.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import httpx
import numpy as np
import onnxruntime as ort
import orjson

from bench.samples import digit_png
from bench.servers import MODELS, Running, cores, process_on, serving
from bench.table import markdown
from service.api.bodies import parse_json
from service.benching.load import Load, http_request, run_load
from service.codecs.instance import InstanceDecoder, Limits
from service.manifest import MODEL_FILE, Manifest

_BUNDLE = MODELS / "mnist-cnn" / "1"
_CONCURRENCIES = (1, 8, 32)
_ROUNDS, _SECONDS = 24, 0.25
"""Short rounds in turn: what else the machine does meanwhile then meets all alike."""
_PART_SECONDS = 0.03


@dataclass(frozen=True, slots=True)
class _Body:
    """What is sent; `decode` is what turns it into the row that the model takes."""

    name: str
    content: bytes
    media_type: str
    decode: Callable[[], object]


@dataclass(frozen=True, slots=True)
class _Round:
    """One round of one body at one concurrency."""

    ours: Load
    constant: Load
    baseline: Load
    batch: float
    limit: float
    """Requests a second."""


@dataclass(frozen=True, slots=True)
class _Servers:
    ours: Running
    plain: Running
    baseline: Running
    core: int
    load_core: int


def report(rounds: int = _ROUNDS, concurrencies: tuple[int, ...] = _CONCURRENCIES) -> str:
    """A table a body: predictions a second, their share of the composed limit, ratios, latencies (medians of the rounds)."""
    server_core, load_core = cores()
    os.sched_setaffinity(0, {load_core})
    bodies, parts = _bodies(), _Model()
    with (
        serving(core=server_core, module="bench.constant_server") as ours,
        process_on(server_core, "bench.plain_server") as plain,
        process_on(server_core, "bench.baseline.server", str(_BUNDLE / MODEL_FILE)) as baseline,
    ):
        servers = _Servers(ours, plain, baseline, server_core, load_core)
        found: dict[tuple[str, int], list[_Round]] = {}
        for _ in range(rounds):
            for body in bodies:
                for concurrency in concurrencies:
                    found.setdefault((body.name, concurrency), []).append(_round(servers, parts, body, concurrency))
    header = ("body", "concurrency", "predict/s", "batch", "limit/s", "of the limit", "x constant FastAPI", "x baseline")
    rows = [(*key, *_row(done)) for key, done in found.items()]
    return (
        f"`:predict` of mnist-cnn, server and load generator on one core each (medians of {rounds} rounds of {_SECONDS:g} s)\n\n"
        + markdown((*header, "p50 ms", "p99 ms", "baseline p50", "baseline p99"), rows)
    )


def _row(done: list[_Round]) -> tuple[object, ...]:
    return (
        round(median(r.ours.rate for r in done)),
        median(r.batch for r in done),
        round(median(r.limit for r in done)),
        median(r.ours.rate / r.limit for r in done),
        median(r.ours.rate / r.constant.rate for r in done),
        median(r.ours.rate / r.baseline.rate for r in done),
        *(
            median(load.percentile(p) * 1e3 for load in loads)
            for loads in ([r.ours for r in done], [r.baseline for r in done])
            for p in (50, 99)
        ),
    )


def _round(servers: _Servers, model: _Model, body: _Body, concurrency: int) -> _Round:
    def load(server: Running, path: str) -> Load:
        return run_load(server.port, http_request(path, body.content, body.media_type), concurrency, _SECONDS)

    before = _batches(servers.ours)
    ours = load(servers.ours, "/v1/models/mnist-cnn:predict")
    rows, runs = (now - then for now, then in zip(_batches(servers.ours), before, strict=True))
    plain = load(servers.plain, "/")
    os.sched_setaffinity(0, {servers.core})  # the parts are measured where the server computes
    decoding, running = _seconds(body.decode), model.seconds_a_row(round(rows / runs))
    os.sched_setaffinity(0, {servers.load_core})
    limit = 1 / (1 / plain.rate + decoding + running)
    return _Round(ours, load(servers.ours, "/constant"), load(servers.baseline, "/predict"), rows / runs, limit)


class _Model:
    """The network in ONNX Runtime alone, on one thread as the server on its one core."""

    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(_BUNDLE / MODEL_FILE, options, providers=["CPUExecutionProvider"])

    def seconds_a_row(self, rows: int) -> float:
        feeds = {"image": np.zeros((rows, 1, 28, 28), np.float32)}
        return _seconds(lambda: self._session.run(None, feeds)) / rows


def _bodies() -> tuple[_Body, _Body]:
    manifest = Manifest.read(_BUNDLE)
    decoder = InstanceDecoder(manifest, _BUNDLE, Limits(max_pixels=1 << 20, max_characters=1, max_instances=1))
    png = digit_png()
    pixels = decoder.decode({"image": png}).tensors["image"]
    numbers = orjson.dumps({"instances": [pixels.tolist()]})

    def from_json() -> object:
        (instance,) = parse_json(numbers, {}, manifest.inputs).instances
        return decoder.decode(instance)

    return (
        _Body("PNG", png, "image/png", lambda: decoder.decode({"image": png})),
        _Body("JSON", numbers, "application/json", from_json),
    )


def _seconds(work: Callable[[], object]) -> float:
    """Median seconds a call."""
    taken: list[float] = []
    end = perf_counter() + _PART_SECONDS
    while (started := perf_counter()) < end:
        work()
        taken.append(perf_counter() - started)
    return median(taken)


def _batches(server: Running) -> tuple[float, float]:
    """Rows and runs of the network so far, by the server's own metrics."""
    text = httpx.get(f"{server.url}/metrics").text
    pattern = r'^whyserve_batch_size_{}{{model_name="mnist-cnn",model_version="1"}} (\S+)$'
    rows, runs = (re.search(pattern.format(what), text, re.MULTILINE) for what in ("sum", "count"))
    if rows is None or runs is None:
        raise LookupError("the metrics show no batch of mnist-cnn")
    return float(rows[1]), float(runs[1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.predict", description=__doc__)
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    parser.add_argument("--concurrency", type=int, nargs="+", default=_CONCURRENCIES)
    arguments = parser.parse_args()
    print(report(arguments.rounds, tuple(arguments.concurrency)))

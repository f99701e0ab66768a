"""Memory over time: the server and its explainers under mixed load at the knee. `python -m bench.soak --minutes 30`.

Predictions of mnist-cnn at the concurrency of the knee, and explanations of all bundles by all their methods in turn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import httpx
import numpy as np
import psutil

from bench.samples import digit_png, explain_request, rows
from bench.servers import MODELS, serving
from bench.table import markdown
from service.benching.load import Address, closed_loop, http_request
from service.manifest import Manifest

_KNEE = 16
"""Predictions under way: where `python -m bench predict` finds no more throughput."""
_ASKERS = 4
_SETTLING = 0.2
"""The part of the time that belongs to warming up: caches fill, every model's twin is built."""
_EVERY = 2.0
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Slope:
    """MiB an hour, with the standard error of a line through correlated values."""

    value: float
    error: float


def report(minutes: float = 30.0) -> str:
    """A table a process: MiB after warming up and at the end, and the slope between."""
    with (
        serving(explainers=1) as server,
        ProcessPoolExecutor(2, mp_context=get_context("spawn")) as others,
        httpx.Client(base_url=server.url, timeout=120) as client,
    ):
        address, seconds = Address("127.0.0.1", server.port), minutes * 60
        asked = _explanations(client)
        loads = [
            others.submit(closed_loop, address, [http_request("/v1/models/mnist-cnn:predict", digit_png(), "image/png")], _KNEE, seconds),
            others.submit(closed_loop, address, asked, _ASKERS, seconds),
        ]
        times, held = [], []
        started = time.monotonic()
        while not all(load.done() for load in loads):
            time.sleep(_EVERY)
            times.append((time.monotonic() - started) / 3600)
            explainers = server.explainers()
            held.append((_mib(server.process), sum(_mib(e) for e in explainers), float(min((e.pid for e in explainers), default=0))))
        predicted, explained = (load.result() for load in loads)
    first = int(len(times) * _SETTLING)
    kept, hours = np.asarray(held[first:]), np.asarray(times[first:])  # (T, 3), (T,)
    table = []
    for k, name in enumerate(("serving process", "explainers")):
        found = slope(hours, kept[:, k])
        table.append((name, kept[0, k], kept[:, k].max(), kept[-1, k], f"{found.value:+.1f} +- {2 * found.error:.1f}"))
    return (
        f"Resident memory, MiB, over {minutes:g} minutes of mixed load ({predicted.rate:.0f} predictions/s, {explained.rate:.1f} "
        f"explanations/s by {len(asked)} different requests; not 200: {dict(predicted.failures)}, {dict(explained.failures)}; explainer "
        f"replaced: {len(set(kept[:, 2])) - 1} times); the first {_SETTLING:.0%} left out\n\n"
        + markdown(("process", "then", "most", "end", "slope, MiB an hour (two standard errors)"), table)
    )


def slope(hours: np.ndarray, mib: np.ndarray) -> Slope:
    """Least squares; what is left is correlated from one moment to the next, so that n values count as n (1 - r) / (1 + r)."""
    centred = hours - hours.mean()
    value = float(centred @ mib / (centred @ centred))
    left = mib - mib.mean() - value * centred
    if not left.any():
        return Slope(value, 0.0)
    r = float(np.clip(left[1:] @ left[:-1] / (left @ left), 0.0, 0.99))
    count = max(3.0, len(mib) * (1 - r) / (1 + r))
    return Slope(value, float(np.sqrt((left @ left) / (count - 2) / (centred @ centred))))


def _explanations(client: httpx.Client) -> list[bytes]:
    """A request for each method of each bundle, in an order in which models alternate."""
    requests: list[tuple[int, bytes]] = []
    for path in sorted(MODELS.glob("*/*/model.yaml")):
        manifest = Manifest.read(path.parent)
        methods: Sequence[str] = [m["name"] for m in client.get(f"/v1/models/{manifest.name}/methods").json()["methods"]]
        instances = rows(manifest.name, len(methods))
        requests += [(i, explain_request(manifest.name, instances[i], {"method": method})) for i, method in enumerate(methods)]
    return [request for _, request in sorted(requests, key=lambda each: each[0])]


def _mib(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / _MIB


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    print(report(parser.parse_args().minutes))

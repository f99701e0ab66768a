"""From process start to the first answered prediction, with every committed bundle."""

from __future__ import annotations

import time
from statistics import median

import httpx

from bench.samples import digit_png
from bench.servers import serving
from bench.table import markdown

_ROUNDS = 5


def report() -> str:
    """A table: seconds until the first `:predict` is answered and until the server is ready."""
    png = digit_png()
    first, ready = [], []
    for _ in range(_ROUNDS):
        with serving(explainers=1, ready=False) as server:
            first.append(_until(server.url + "/v1/models/mnist-cnn:predict", png) - server.started)
            ready.append(_until(server.url + "/v2/health/ready", None) - server.started)
    rows = [
        ("first answered prediction", median(first), min(first), max(first)),
        ("every bundle warmed up (ready)", median(ready), min(ready), max(ready)),
    ]
    return f"Process start to .., seconds, {_ROUNDS} starts\n\n" + markdown(("until", "median", "least", "most"), rows)


def _until(url: str, body: bytes | None, seconds: float = 60) -> float:
    """The clock when `url` first answers 200. Raises TimeoutError."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        try:
            response = httpx.get(url) if body is None else httpx.post(url, content=body, headers={"content-type": "image/png"})
            if response.status_code == 200:
                return time.perf_counter()
        except httpx.TransportError:
            pass
        time.sleep(0.01)
    raise TimeoutError(f"no 200 from {url} within {seconds} s")

"""`:predict` of a picture against a FastAPI route of the same app that reads the body and answers a constant."""

from __future__ import annotations

import os
from statistics import median

from bench.samples import digit_png
from bench.servers import cores, serving
from bench.table import markdown
from service.benching.load import http_request, run_load

_CONCURRENCIES = (1, 8, 32)
_ROUNDS, _SECONDS = 40, 0.25
"""Short rounds in turn: what else the machine does meanwhile then meets both alike."""


def report() -> str:
    """A table: requests a second of both, side by side in one run, and their ratio (medians of the rounds)."""
    server_core, load_core = cores()
    os.sched_setaffinity(0, {load_core})
    png = digit_png()
    predict = http_request("/v1/models/mnist-cnn:predict", png, "image/png")
    constant = http_request("/constant", png, "image/png")
    rows = []
    with serving(core=server_core, module="bench.constant_server") as server:
        for concurrency in _CONCURRENCIES:
            pairs = [
                (run_load(server.port, predict, concurrency, _SECONDS), run_load(server.port, constant, concurrency, _SECONDS))
                for _ in range(_ROUNDS)
            ]
            rows.append(
                (
                    concurrency,
                    round(median(p.rate for p, _ in pairs)),
                    round(median(c.rate for _, c in pairs)),
                    median(p.rate / c.rate for p, c in pairs),
                    median(p.percentile(50) * 1e3 for p, _ in pairs),
                    median(p.percentile(99) * 1e3 for p, _ in pairs),
                )
            )
    return (
        f"`:predict` of mnist-cnn, PNG body, server and load generator on one core each "
        f"(medians of {_ROUNDS} rounds of {_SECONDS:g} s)\n\n"
        + markdown(("concurrency", "predict/s", "constant FastAPI route/s", "ratio", "p50 ms", "p99 ms"), rows)
    )

"""Explanations a second, eight concurrent requests of one model against one at a time.

Through a real server with `:explain`'s V2 form and binary tensors, server and explainer on one core, this process on another;
no two requests alike, so that nothing is answered by another's result. `python -m bench.sharing --rounds 1` for a quick look.
"""

from __future__ import annotations

import argparse
import http.client
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter

from bench import resnet
from bench.samples import explain_body, explain_path, rows
from bench.servers import Running, copied_models, cores, serving
from bench.table import markdown
from bench.timing import quartiles

_TOGETHER = 8
_ROUNDS = 5
_SMALL = ("mnist-cnn", "sst2-gru", "wine-mlp", "fsdd-cnn")
_COUNT = 48
_PICTURES = 8

Body = tuple[bytes, dict[str, str]]


def report(rounds: int = _ROUNDS, large: bool = True) -> str:
    """A table: explanations a second one at a time, eight at once, their ratio."""
    server_core, load_core = cores()
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {load_core})
    bodies = {name: [explain_body(feeds) for feeds in rows(name, _COUNT)] for name in _SMALL}
    if large:
        bodies[resnet.NAME] = [explain_body({"image": row[None]}) for row in resnet.pictures(_PICTURES, seed=100)]
    try:
        with tempfile.TemporaryDirectory() as root:
            models = copied_models(Path(root))
            if large:
                resnet.write_bundle(models)
            with serving(core=server_core, explainers=1, models=models) as server:
                table = [_row(server, name, asked, rounds if len(asked) == _COUNT else min(2, rounds)) for name, asked in bodies.items()]
    finally:
        os.sched_setaffinity(0, allowed)
    header = (
        "model",
        "requests",
        "rounds",
        "one at a time, 1/s",
        f"{_TOGETHER} at once, 1/s",
        "ratio, median (quartiles)",
        "slower rounds",
    )
    return "Default explanations a second, server and explainer on one core, in turns\n\n" + markdown(header, table)


def _row(server: Running, model: str, bodies: list[Body], rounds: int) -> tuple[object, ...]:
    _seconds(server, model, bodies[:_TOGETHER], 2)  # loads the twin
    alone, together = [], []
    for _ in range(rounds):
        alone.append(len(bodies) / _seconds(server, model, bodies, 1))
        together.append(len(bodies) / _seconds(server, model, bodies, _TOGETHER))
    ratios = [t / a for a, t in zip(alone, together, strict=True)]
    return model, len(bodies), rounds, median(alone), median(together), quartiles(ratios), sum(r < 1 for r in ratios)


def _seconds(server: Running, model: str, bodies: list[Body], concurrency: int) -> float:
    """From the first request sent to the last one answered."""
    own = threading.local()

    def post(body: Body) -> None:
        if not hasattr(own, "connection"):
            own.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
        own.connection.request("POST", explain_path(model), *body)
        response = own.connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise RuntimeError(f"{model}: {response.status} {answer[:300]!r}")

    with ThreadPoolExecutor(concurrency) as threads:
        started = perf_counter()
        list(threads.map(post, bodies))
        return perf_counter() - started


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.sharing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    parser.add_argument("--small", action="store_true", help="without the large network")
    arguments = parser.parse_args()
    print(report(arguments.rounds, not arguments.small))

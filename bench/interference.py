"""What predictions feel of explanations: p99 of `:predict` at half of the knee, with explanations saturating their queue and without.

Open loop (Poisson arrivals, latency from when a request was due), server and explainer on one core, both generators on another
(the one that asks for explanations in the idle class, so that it doesn't disturb the other's clock), in turns.
`python -m bench.interference --rounds 2` for a quick look.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from statistics import median

from bench.samples import digit_png, explain_request, rows
from bench.servers import Running, cores, serving
from bench.table import markdown
from service.benching.load import Address, Load, closed_loop, http_request, open_loop
from service.benching.measure import Level, knee

_ROUNDS, _SECONDS = 16, 1.5
_ASKERS = 64
"""Explanations asked for at once: more than the explainer runs side by side, so that its queue is never empty."""
_LEVELS, _LEVEL_SECONDS = (1, 2, 4, 8, 16, 32, 64), 0.7
_SETTLE = 0.5


def report(rounds: int = _ROUNDS) -> str:
    """A table: percentiles with and without explanations, and their ratio round by round."""
    server_core, load_core = cores()
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {load_core})
    predict = http_request("/v1/models/mnist-cnn:predict", digit_png(), "image/png")
    explain = [explain_request("mnist-cnn", feeds) for feeds in rows("mnist-cnn", 4 * _ASKERS)]
    try:
        with serving(core=server_core, explainers=1) as server, _behind() as other:
            address = Address("127.0.0.1", server.port)
            closed_loop(address, explain, 1, 3)  # starts the explainer and loads the twin
            levels = [Level(c, closed_loop(address, [predict], c, _LEVEL_SECONDS)) for c in _LEVELS]
            at = knee(levels)
            rate = at.load.rate / 2
            without, under, explained = [], [], []
            for turn in range(rounds):
                without.append(open_loop(address, [predict], rate, _SECONDS, seed=turn))
                with _explaining(other, server, explain) as running:
                    under.append(open_loop(address, [predict], rate, _SECONDS, seed=turn))
                explained.append(running.result())
    finally:
        os.sched_setaffinity(0, allowed)
    rates = sorted(b.percentile(99) / a.percentile(99) for a, b in zip(without, under, strict=True))
    table = [_row("without explanations", without, None), _row(f"with {_ASKERS} explanations asked for at once", under, explained)]
    header = ("predictions", "p50 ms", "p99 ms", "p99 of the rounds", "max ms", "not 200", "explanations/s", "explain answers not 200")
    return (
        f"`:predict` of mnist-cnn (PNG), {rate:.0f}/s arriving by chance, half of the knee ({at.concurrency} under way: "
        f"{at.load.rate:.0f}/s); "
        f"medians of {rounds} rounds of {_SECONDS:g} s each, in turns\n\n{markdown(header, table)}\n\n"
        f"p99 with / without, round by round: {', '.join(f'{r:.2f}' for r in rates)}; median {median(rates):.2f}"
    )


def _behind() -> ProcessPoolExecutor:
    """A process that computes when nobody else on its core does."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_yield)


def _yield() -> None:
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


@contextmanager
def _explaining(other: ProcessPoolExecutor, server: Running, requests: list[bytes]) -> Iterator[Future[Load]]:
    """The queue of explanations full from before the block until after it."""
    running = other.submit(closed_loop, Address("127.0.0.1", server.port), requests, _ASKERS, _SECONDS + 2 * _SETTLE)
    time.sleep(_SETTLE)
    yield running
    running.result()


def _row(name: str, loads: list[Load], explained: list[Load] | None) -> tuple[object, ...]:
    p99 = [load.percentile(99) * 1e3 for load in loads]
    return (
        name,
        median(load.percentile(50) * 1e3 for load in loads),
        median(p99),
        f"{min(p99):.2f} .. {max(p99):.2f}",
        max(max(load.latencies) for load in loads) * 1e3,
        sum(sum(load.failures.values()) for load in loads),
        "-" if explained is None else median(load.rate for load in explained),
        "-" if explained is None else sum(sum(load.failures.values()) for load in explained),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.interference", description=__doc__)
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    print(report(parser.parse_args().rounds))

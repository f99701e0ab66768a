"""The comparison's table from loads made up here, and what is sent to each peer."""

from __future__ import annotations

import orjson
import pytest

from bench.peers.comparison import OURS, table
from bench.peers.peer import PEERS, THREADS
from service.benching.load import Load


def load(requests: int, latency: float) -> Load:
    return Load(requests, 0.5, [latency] * requests)


def test_multiples_are_of_the_thread_pool_in_the_same_round() -> None:
    pool = [load(100, 0.001), load(50, 0.002), load(10, 0.01)]
    ours = [load(200, 0.0005), load(100, 0.001), load(20, 0.005)]
    lines = table({8: {THREADS.name: pool, OURS: ours}}, {THREADS.name: "1", OURS: "1"}).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["concurrency", "server", "processes", "requests/s", "x thread pool", "p50 ms", "p99 ms"]
    assert cells[2] == ["8", THREADS.name, "1", "100", "1", "2", "2"]
    assert cells[3] == ["8", OURS, "1", "200", "2", "1", "1"]


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_body_holds_the_rows(peer) -> None:
    rows = [[[[0.5, 1.0], [0.0, 2.0]]]]
    document = orjson.loads(peer.request_body(rows))
    assert document.get("instances", document.get("inputs", [{}])[0].get("data") if "inputs" in document else None) == rows

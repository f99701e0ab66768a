"""The search for the fastest pass, on a clock that the test turns."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from service.explain import pace
from service.explain.cancel import Token
from service.explain.gradient_graph import GradientGraph
from service.explain.subject import Subject


class Clock:
    """A machine on which a pass of n rows takes `seconds(n)`."""

    def __init__(self, seconds) -> None:
        self._seconds = seconds
        self.now = 0.0
        self.ran: list[int] = []

    def run(self, size: int) -> None:
        self.ran.append(size)
        self.now += self._seconds(size)


@pytest.mark.parametrize(
    ("seconds", "most", "expected"),
    [
        (lambda n: 10.0 + n, 1000, 128),  # calls are dear: the more rows the better
        (lambda n: 10.0 + n, 10, 8),  # no more than fit
        (lambda n: float(n), 1000, 1),  # a row costs the same everywhere: the least memory
        (lambda n: 3.0 + n + n * n / 8, 1000, 4),  # caches run over
        (lambda n: 5.0, 0, 1),  # not even one fits: it is tried all the same
    ],
)
def test_the_size_of_the_least_time_a_row(monkeypatch, seconds, most, expected) -> None:
    clock = Clock(seconds)
    monkeypatch.setattr(pace, "thread_time", lambda: clock.now)
    costs = {n: seconds(n) / n for n in (1, 2, 4, 8, 16, 32, 64, 128) if n <= max(1, most)}
    assert pace.fastest(clock.run, most) == expected
    assert costs[expected] <= 1.05 * min(costs.values())


def test_the_search_ends_soon_behind_the_fastest(monkeypatch) -> None:
    clock = Clock(lambda n: float(n * n))
    monkeypatch.setattr(pace, "thread_time", lambda: clock.now)
    assert pace.fastest(clock.run, 1000) == 1
    assert max(clock.ran) == 4  # two sizes without a gain


def test_one_slow_turn_does_not_decide(monkeypatch) -> None:
    turns = iter([9.0, 1.0, 1.0, 99.0, 1.1, 50.0] + [1.2] * 20)
    clock = Clock(lambda _: next(turns))
    monkeypatch.setattr(pace, "thread_time", lambda: clock.now)
    assert pace.fastest(clock.run, 2) == 2


def test_a_machine_that_slows_down_meanwhile_does_not_decide(monkeypatch) -> None:
    """A row of four takes 0.8 of the time of a row of two, and while they are first measured a quarter more."""
    clock = Clock(lambda n: {1: 1.5, 2: 2.0, 4: 3.2, 8: 8.0}.get(n, 2.0 * n) * (1.25 if 6 < len(clock.ran) <= 12 else 1.0))
    monkeypatch.setattr(pace, "thread_time", lambda: clock.now)
    assert pace.fastest(clock.run, 16) == 4


def test_time_without_a_processor_does_not_count() -> None:
    """Calls are dear, so that the most rows are the fastest; on the wall's clock the fewest would be."""

    def run(size: int) -> None:
        end = time.thread_time() + 0.004
        while time.thread_time() < end:
            pass
        time.sleep(0.005 * size**2)

    assert pace.fastest(run, 4) == 4


@pytest.mark.parametrize(("graph_takes", "chosen"), [(1.0, True), (0.95, True), (1.05, False), (3.0, False)])
def test_a_gradient_graph_is_used_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, subjects: Mapping[str, Subject], graph_takes: float, chosen: bool
) -> None:
    """By a tenth at least: the twin's pass takes 1.1 whatever its rows, the graph's `graph_takes`."""
    clock = Clock(lambda _: 1.1)
    graph = Clock(lambda _: graph_takes)
    twins = pace.with_gradients

    def with_gradients(subject: Subject, feeds: Mapping[str, np.ndarray], ran: Mapping[str, np.ndarray]):
        clock.run(len(next(iter(feeds.values()))))
        return twins(subject, feeds, ran)

    def run(feeds: Mapping[str, np.ndarray], seed: np.ndarray) -> None:
        assert seed.shape == (len(feeds["image"]), 10)
        graph.run(len(seed))

    monkeypatch.setattr(pace, "with_gradients", with_gradients)
    monkeypatch.setattr(pace, "thread_time", lambda: clock.now + graph.now)
    played = SimpleNamespace(run=run, row=(10,))
    found = pace.pace_of(subjects["cnn"], {"image": np.zeros((1, 1, 12, 12), np.float32)}, 2**26, Token(), cast("GradientGraph", played))
    assert (found.graph is played) == chosen
    assert found.chunk == 128  # calls are all that costs here
    assert max(graph.ran) == (128 if chosen else pace.COMPARED)


@pytest.mark.parametrize(("mixed_takes", "expected"), [(0.875, 9), (0.5, 3), (0.95, None), (1.5, None)])
def test_mixed_precision_begins_where_it_gains_more_than_its_check_takes(
    monkeypatch: pytest.MonkeyPatch, subjects: Mapping[str, Subject], mixed_takes: float, expected: int | None
) -> None:
    """A row takes 1 in float32, as the check does, so it pays from the first number of rows that save more than that."""
    clock = Clock(lambda cost: cost)

    def with_gradients(subject: Subject, feeds: Mapping[str, np.ndarray], ran: Mapping[str, np.ndarray], form: str = "folded"):
        clock.run(len(next(iter(feeds.values()))) * (mixed_takes if form == "mixed" else 1.0))

    monkeypatch.setattr(pace, "WEIGHTY", 0)
    monkeypatch.setattr(pace, "with_gradients", with_gradients)
    monkeypatch.setattr(pace, "thread_time", lambda: clock.now)
    found = pace.pace_of(subjects["cnn"], {"image": np.zeros((1, 1, 12, 12), np.float32)}, 2**26, Token())
    assert (found.mixed is not None) == (expected is not None)
    assert found.mixed_from == (expected or 1)

"""The search for the fastest pass, on a clock that the test turns."""

from __future__ import annotations

import time

import pytest

from service.explain import pace


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


def test_time_without_a_processor_does_not_count() -> None:
    """Calls are dear, so that the most rows are the fastest; on the wall's clock the fewest would be."""

    def run(size: int) -> None:
        end = time.thread_time() + 0.004
        while time.thread_time() < end:
            pass
        time.sleep(0.005 * size**2)

    assert pace.fastest(run, 4) == 4

"""Concurrent work within a budget: never more at once, in order, and nothing lost when a waiter gives up."""

from __future__ import annotations

import asyncio

import pytest

from service.budget import Budget


class Meter:
    """Counts what is held at once, and in which order holders began."""

    def __init__(self, total: int) -> None:
        self.budget = Budget(total)
        self.held = self.most = 0
        self.began: list[int] = []

    async def work(self, number: int, amount: int, seconds: float = 0.005) -> None:
        async with self.budget.hold(amount):
            self.began.append(number)
            self.held += amount
            self.most = max(self.most, self.held)
            await asyncio.sleep(seconds)
            self.held -= amount


async def test_never_more_than_the_budget_and_first_come_first_served():
    meter = Meter(10)
    await asyncio.wait_for(asyncio.gather(*(meter.work(number, 4) for number in range(9))), 5)
    assert meter.most == 8
    assert meter.began == list(range(9))


async def test_a_small_demand_does_not_overtake_a_large_one():
    meter = Meter(10)
    await asyncio.wait_for(asyncio.gather(meter.work(0, 6), meter.work(1, 8), meter.work(2, 1)), 5)
    assert meter.began == [0, 1, 2]


async def test_a_demand_above_the_budget_runs_alone():
    meter = Meter(10)
    await asyncio.wait_for(asyncio.gather(meter.work(0, 3), meter.work(1, 99), meter.work(2, 3)), 5)
    assert meter.began == [0, 1, 2]
    assert meter.most == 99


async def test_an_error_gives_back_what_was_held():
    budget = Budget(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with budget.hold(1):
                raise ZeroDivisionError
    async with asyncio.timeout(1), budget.hold(1):
        pass


@pytest.mark.parametrize("turns", range(5))
async def test_a_waiter_that_gives_up_takes_nothing_with_it(turns: int):
    """Cancelled at each turn of the loop: while it waits, and when it was just given its turn."""
    meter = Meter(4)
    first = asyncio.create_task(meter.work(0, 4, seconds=0))
    waiting = asyncio.create_task(meter.work(1, 4))
    last = asyncio.create_task(meter.work(2, 4))
    for _ in range(turns):
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait_for(asyncio.gather(first, last), 2)
    async with asyncio.timeout(1), meter.budget.hold(4):
        pass

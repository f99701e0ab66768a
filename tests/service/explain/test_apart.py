"""Turns are rounds of the event loop apart, nobody waits for one who has gone, and who comes alone doesn't wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import uvloop

from service.explain.apart import GAP, Apart

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Rounds:
    """Counts the rounds of the event loop."""

    def __init__(self) -> None:
        self.count = 0

    async def go_on(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)


@asynccontextmanager
async def counted() -> AsyncIterator[Rounds]:
    rounds = Rounds()
    counting = asyncio.create_task(rounds.go_on())
    await asyncio.sleep(0)
    yield rounds
    counting.cancel()


async def had(apart: Apart, rounds: Rounds) -> int:
    """The round in which the turn came."""
    await apart.turn()
    return rounds.count


async def test_those_who_come_together_go_on_apart_in_their_order() -> None:
    apart = Apart()
    async with counted() as rounds:
        for _ in range(2):  # and again, once nobody has waited for a while
            begun = rounds.count
            came = await asyncio.gather(*(had(apart, rounds) for _ in range(5)))
            assert came[0] - begun <= 1
            assert {later - earlier for earlier, later in pairwise(came)} <= {GAP, GAP + 1}  # waking up may take one
            await asyncio.sleep(0.01)


async def test_one_after_the_other_nobody_waits() -> None:
    apart = Apart()
    async with counted() as rounds:
        for _ in range(3):
            begun = rounds.count
            assert await had(apart, rounds) == begun
            await asyncio.sleep(0.01)


async def test_who_has_gone_is_passed_over() -> None:
    apart = Apart()
    async with counted() as rounds:
        tasks = [asyncio.create_task(had(apart, rounds)) for _ in range(4)]
        await asyncio.sleep(0)
        for task in tasks[1:3]:
            task.cancel()
        first, *gone, last = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in gone)
        assert last - first in (GAP, GAP + 1)
        await asyncio.sleep(0.01)
        assert await had(apart, rounds) == rounds.count

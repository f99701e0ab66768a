"""Turns come once the event loop has nothing to do for predictions, rounds apart and in their order; who has gone is passed over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import uvloop

from service.engine.precedence import APART, GAP, PATIENCE, QUIET, STILL, Precedence

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
Test = Callable[[], Awaitable[None]]


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


@pytest.fixture(params=LOOPS)
def on_a_loop(request: pytest.FixtureRequest) -> Callable[[Test], None]:
    def run(test: Test) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(test())  # type: ignore[arg-type]  # a test is a coroutine

    return run


def after_a_prediction() -> Precedence:
    precedence = Precedence()
    precedence.prediction()
    return precedence


async def had(precedence: Precedence, rounds: Rounds) -> int:
    """The round in which the turn came."""
    await precedence.turn()
    return rounds.count


async def predicting(precedence: Precedence, rounds: int, every: int = 1) -> None:
    """Predictions that begin or end all the time."""
    for _ in range(rounds):
        precedence.prediction()
        for _ in range(every):
            await asyncio.sleep(0)


def test_those_who_come_together_go_on_apart_in_their_order(on_a_loop) -> None:
    async def together() -> None:
        precedence = Precedence()
        async with counted() as rounds:
            for _ in range(2):  # and again, once nobody has waited for a while
                precedence.prediction()
                begun = rounds.count
                came = await asyncio.gather(*(had(precedence, rounds) for _ in range(5)))
                assert came[0] - begun <= QUIET + 3  # no prediction is at hand
                assert {later - earlier for earlier, later in pairwise(came)} <= {GAP, GAP + 1}  # waking up may take one
                await asyncio.sleep(0.01)

    on_a_loop(together)


@pytest.mark.parametrize("every", [1, QUIET - 1])
def test_predictions_go_first(on_a_loop, every: int) -> None:
    """As long as they begin and end, with some rounds between them too, nobody has a turn; then it comes."""

    async def busy() -> None:
        precedence = after_a_prediction()
        async with counted() as rounds:
            begun = rounds.count
            predictions = asyncio.create_task(predicting(precedence, 12, every))
            came = await had(precedence, rounds)
            assert predictions.done()
            assert 12 * every < came - begun <= 12 * every + QUIET + 5

    on_a_loop(busy)


def test_predictions_without_end_leave_some_turns(on_a_loop) -> None:
    async def never_quiet() -> None:
        precedence, loop = after_a_prediction(), asyncio.get_running_loop()
        predictions = asyncio.create_task(predicting(precedence, 10**9))
        started = loop.time()
        for count in range(1, 4):
            await asyncio.wait_for(precedence.turn(), 10)
            assert loop.time() - started >= count * PATIENCE * 0.9  # the loop's clock stands still during a round
        predictions.cancel()

    on_a_loop(never_quiet)


def test_many_who_wait_do_not_wait_for_one_another(on_a_loop) -> None:
    """500 that come at once beside predictions without end: at a hundred turns a second it would be five seconds."""

    async def flooded() -> None:
        precedence, loop = after_a_prediction(), asyncio.get_running_loop()
        predictions = asyncio.create_task(predicting(precedence, 10**9))
        started = loop.time()
        await asyncio.gather(*(precedence.turn() for _ in range(500)))
        assert loop.time() - started < 500 * PATIENCE * 0.6
        predictions.cancel()

    on_a_loop(flooded)


def test_who_has_gone_is_passed_over(on_a_loop) -> None:
    async def some_go() -> None:
        precedence = after_a_prediction()
        async with counted() as rounds:
            tasks = [asyncio.create_task(had(precedence, rounds)) for _ in range(4)]
            await asyncio.sleep(0)
            for task in tasks[1:3]:
                task.cancel()
            first, *gone, last = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(one, asyncio.CancelledError) for one in gone)
            assert last - first in (GAP, GAP + 1)
            await asyncio.sleep(0.01)
            await asyncio.wait_for(precedence.turn(), 10)

    on_a_loop(some_go)


def test_where_no_prediction_is_expected_a_turn_comes_at_once(on_a_loop, monkeypatch) -> None:
    """Without a round of the loop. One that follows too soon waits for its rounds, and one behind a prediction, too."""
    now = 100.0
    monkeypatch.setattr("service.engine.precedence.monotonic", lambda: now)

    async def still() -> None:
        nonlocal now
        precedence = Precedence()
        async with counted() as rounds:
            begun = rounds.count
            assert await had(precedence, rounds) == begun
            assert await had(precedence, rounds) >= begun + GAP
            await asyncio.sleep(0.01)
            now += APART
            begun = rounds.count
            assert await had(precedence, rounds) == begun
            precedence.prediction()
            now += STILL - APART
            assert await had(precedence, rounds) >= begun + QUIET
            await asyncio.sleep(0.01)
            now += 2 * STILL
            begun = rounds.count
            assert await had(precedence, rounds) == begun

    on_a_loop(still)


def test_nothing_goes_on_once_nobody_waits() -> None:
    """Rounds are counted only while somebody waits: an idle server's loop sleeps."""

    async def idle() -> None:
        precedence, loop = after_a_prediction(), asyncio.get_running_loop()
        await precedence.turn()
        await asyncio.sleep(0.01)
        calls: list[object] = []
        soon = loop.call_soon
        loop.call_soon = lambda *a, **k: (calls.append(a), soon(*a, **k))[1]  # type: ignore[method-assign]
        precedence.prediction()
        await asyncio.sleep(0.01)
        assert not any("_round" in str(call) for call in calls)

    asyncio.run(idle())  # uvloop's methods can't be replaced

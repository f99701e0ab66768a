"""Places at explainers that a test plays: who gets one, and that none is lost in whichever moment its asker leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.caller import Caller
from service.errors import DeadlineExceeded, Unavailable
from service.explain.endpoint import Lost
from service.explain.line import AGEING, Line
from service.explain.message import Message, Reply
from service.explain.pool import Pool
from service.explain.remote import Explainer
from service.explain.turns import JOBS, PATIENT, Turns

ANSWER = Reply(b"{}")


class Played:
    """An endpoint that answers what the test says, when it says so."""

    def __init__(self) -> None:
        self.asked: dict[Message, asyncio.Future[Reply]] = {}
        self.about_to_answer: Callable[[], object] = lambda: None

    async def ask(self, message: Message, grace: float) -> Reply:
        answer = self.asked[message] = asyncio.get_running_loop().create_future()
        try:
            return await answer
        finally:
            del self.asked[message]
            self.about_to_answer()

    def answer(self, message: Message | None = None) -> None:
        """This message, or the one asked first."""
        self.asked[message or next(iter(self.asked))].set_result(ANSWER)


def explainer(endpoint: Played | None = None) -> Explainer:
    process: Any = SimpleNamespace(returncode=None, kill=lambda: None)
    return Explainer(process, endpoint or Played(), clock=None)  # type: ignore[arg-type]


def message(seconds: float = 60, model: str = "cnn", *, interactive: bool = True) -> Message:
    return Message("explain", model, 1, time.monotonic() + seconds, caller=Caller(interactive=interactive))


async def settled() -> None:
    """Everything that can go on has."""
    for _ in range(20):
        await asyncio.sleep(0)


# ------------------------------------------------------------------------------------------------------ the turns themselves


class Queue:
    """Turns with their line. Whoever comes leaves the line at once and keeps the place."""

    def __init__(self, *explainers: Explainer) -> None:
        self.later = 0.0
        """Seconds that the line's clock is ahead."""
        self.line = Line(100, 1.0, len(explainers), lambda: time.monotonic() + self.later)
        self.waits: list[float] = []
        self.turns = Turns(self.line, lambda: explainers, self.waits.append)

    def comes(self, message: Message, *, alone: bool = False) -> asyncio.Task[Explainer]:
        return asyncio.create_task(self._come(message, alone))

    async def _come(self, message: Message, alone: bool) -> Explainer:
        ticket = self.line.enter(message.caller, 0.001, message.deadline)
        try:
            return await self.turns.come(ticket, message, alone=alone)
        finally:
            self.line.leave(ticket, done=False)
            self.turns.call()

    async def full(self, *explainers: Explainer) -> Sequence[Message]:
        """Every place taken, one message each."""
        messages = [message() for _ in range(JOBS * len(explainers))]
        await asyncio.gather(*map(self.comes, messages))
        assert all(explainer.taken == JOBS for explainer in explainers)
        return messages


@pytest.mark.parametrize("hangs_up_first", [True, False])
async def test_a_place_that_comes_free_in_the_moment_of_a_hang_up_goes_to_the_next(hangs_up_first: bool):
    one = explainer()
    queue = Queue(one)
    held = await queue.full(one)
    first, second = queue.comes(message()), queue.comes(message())
    await settled()
    if hangs_up_first:
        first.cancel()
    queue.turns.over(one, held[0])
    if not hangs_up_first:
        first.cancel()
    assert await second is one
    assert first.cancelled()
    assert one.taken == JOBS
    assert len(queue.line) == 0


@pytest.mark.parametrize("after_deadline", [0.005, -0.005])
async def test_a_place_that_comes_free_in_the_moment_of_the_deadline_goes_to_the_next(after_deadline: float):
    """Both are due before anybody runs: the loop takes them in this order, and the asker resumes after both."""
    one = explainer()
    queue = Queue(one)
    held = await queue.full(one)
    late = message(0.05)
    first, second = queue.comes(late), queue.comes(message())
    await settled()
    asyncio.get_running_loop().call_at(late.deadline + after_deadline, queue.turns.over, one, held[0])
    time.sleep(0.1)  # noqa: ASYNC251  # the loop is to be late
    with pytest.raises(DeadlineExceeded):
        await first
    assert await second is one
    assert one.taken == JOBS
    assert len(queue.line) == 0


async def test_who_is_first_in_line_and_who_is_preferred():
    one, two = explainer(), explainer()
    queue = Queue(one, two)
    mine = message(model="text")
    assert await queue.comes(mine) is one
    assert await queue.comes(message()) is two, "it does nothing"
    assert await queue.comes(message(model="text")) is one, "it has this model's"
    assert await queue.comes(message(model="other")) is two, "it has the fewest"
    assert len(queue.waits) == 4


async def test_alone_is_alone():
    one = explainer()
    queue = Queue(one)
    here, alone, behind = message(), message(), message()
    await queue.comes(here)
    waits, waits_too = queue.comes(alone, alone=True), queue.comes(behind)
    await settled()
    assert not waits.done()
    queue.turns.over(one, here)
    assert await waits is one
    await settled()
    assert not waits_too.done(), "nobody beside it"
    queue.turns.over(one, alone)
    assert await waits_too is one
    assert one.taken == 1


async def test_asynchronous_ones_leave_half_of_the_places():
    one = explainer()
    queue = Queue(one)
    patient = [message(interactive=False) for _ in range(PATIENT)]
    await asyncio.gather(*map(queue.comes, patient))
    waits = queue.comes(message(interactive=False))
    await settled()
    assert not waits.done()
    assert [await queue.comes(message()) for _ in range(JOBS - PATIENT)] == [one] * (JOBS - PATIENT)
    assert one.taken == JOBS
    queue.turns.over(one, patient[0])
    assert await waits is one
    assert (one.taken, one.patient) == (JOBS, PATIENT)


async def test_all_who_wait_are_told_that_nobody_will_come():
    one = explainer()
    queue = Queue(one)
    await queue.full(one)
    waits = [queue.comes(message()), queue.comes(message(interactive=False))]
    await settled()
    queue.turns.give_up(Unavailable("none"))
    for each in waits:
        with pytest.raises(Unavailable, match="none"):
            await each
    assert len(queue.line) == 0


async def test_nobody_passes_an_asynchronous_one_that_is_to_be_alone():
    one = explainer()
    queue = Queue(one)
    here, alone = message(), message(interactive=False)
    await queue.comes(here)
    waits = queue.comes(alone, alone=True)
    await settled()
    queue.later = AGEING + 1  # it has waited so long that it stands before whoever comes now
    behind = queue.comes(message())
    await settled()
    assert not behind.done()
    queue.turns.over(one, here)
    assert await waits is one
    assert not behind.done()
    queue.turns.over(one, alone)
    assert await behind is one


# ------------------------------------------------------------------------------------------------------- the pool over them


@pytest.fixture
def endpoint() -> Played:
    return Played()


@pytest.fixture
def pool(endpoint: Played) -> Pool:
    pool = Pool(Path("models"), queue=100, share=1.0)
    pool._keepers = [SimpleNamespace(explainer=explainer(endpoint))]  # type: ignore[list-item]
    return pool


def carried(pool: Pool, seconds: float = 60, model: str = "cnn") -> asyncio.Task[Reply]:
    return asyncio.create_task(pool.carry(message(seconds, model)))


async def all_places_serve(pool: Pool, endpoint: Played) -> None:
    """Nothing waits or runs, and as many messages as a process takes run side by side."""
    assert (pool.pending, pool.running) == (0, 0)
    assert not endpoint.asked
    tasks = [carried(pool) for _ in range(JOBS + 1)]
    await settled()
    assert len(endpoint.asked) == JOBS
    while endpoint.asked:
        endpoint.answer()
        await settled()
    assert [await task for task in tasks] == [ANSWER] * (JOBS + 1)
    assert (pool.pending, pool.running) == (0, 0)


@pytest.mark.parametrize("steps", range(10))
async def test_no_place_is_lost_however_long_before_or_after_an_answer_somebody_hangs_up(steps: int, pool: Pool, endpoint: Played):
    """As many times as there are places: one lost each time would leave none."""
    for _ in range(JOBS):
        tasks = [carried(pool) for _ in range(JOBS + 3)]
        await settled()
        endpoint.answer()
        for _ in range(steps):
            await asyncio.sleep(0)
        tasks[JOBS].cancel()  # it gets the place that comes free, or is about to
        await settled()
        while endpoint.asked:
            endpoint.answer()
            await settled()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert outcomes.count(ANSWER) >= JOBS + 2
        assert all(outcome == ANSWER or isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    await all_places_serve(pool, endpoint)


async def test_who_hangs_up_as_another_is_answered_takes_nothing_from_anybody(pool: Pool, endpoint: Played):
    """The one that is first in line has been cancelled, and hasn't run since, when the place comes free."""
    for _ in range(JOBS):
        tasks = [carried(pool) for _ in range(JOBS + 2)]
        await settled()
        endpoint.about_to_answer = tasks[JOBS].cancel
        while endpoint.asked:
            endpoint.answer()
            await settled()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(outcomes.pop(JOBS), asyncio.CancelledError)
        assert outcomes == [ANSWER] * (JOBS + 1)
    endpoint.about_to_answer = lambda: None
    await all_places_serve(pool, endpoint)


async def test_whoever_runs_and_hangs_up_frees_the_place(pool: Pool, endpoint: Played):
    tasks = [carried(pool) for _ in range(JOBS)]
    await settled()
    for task in tasks:
        task.cancel()
    await settled()
    await all_places_serve(pool, endpoint)


async def test_beyond_its_deadline_a_message_has_its_place_until_the_process_is_done_with_it(pool: Pool, endpoint: Played):
    late = carried(pool, 0.01)
    with pytest.raises(DeadlineExceeded):
        await late
    assert (pool.pending, pool.running) == (0, 1)
    endpoint.answer()
    await settled()
    await all_places_serve(pool, endpoint)


async def test_a_process_that_is_lost_with_all_that_it_had(pool: Pool, endpoint: Played):
    """Each is asked of another one, alone there; who hangs up meanwhile isn't."""
    tasks = [carried(pool) for _ in range(3)]
    await settled()
    tasks[1].cancel()
    for asked in endpoint.asked.values():
        asked.set_exception(Lost())
    await settled()
    assert pool.running == 0, "its place went with it"
    pool._keepers[0].explainer = explainer(endpoint)
    pool._turns.call()
    for _ in range(2):
        await settled()
        assert len(endpoint.asked) == 1
        endpoint.answer()
    assert await asyncio.gather(tasks[0], tasks[2]) == [ANSWER] * 2
    await all_places_serve(pool, endpoint)


async def test_lost_twice(pool: Pool, endpoint: Played):
    task = carried(pool, model="text")
    for _ in range(2):
        await settled()
        (asked,) = endpoint.asked.values()
        asked.set_exception(Lost())
        await settled()
        pool._keepers[0].explainer = explainer(endpoint)
        pool._turns.call()
    with pytest.raises(Unavailable, match="two explainers"):
        await task
    await all_places_serve(pool, endpoint)

"""Who finds no room waits for as long as it was told to, in order, and gives up at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from service.errors import BadParameter, DeadlineExceeded, Overloaded, ShareUsedUp, Unavailable, WhyserveError
from service.explanations.postponed import Postponed
from service.telemetry import Metrics

FULL = "64 explanations wait or run already"


class Room:
    """Places for so many; notes who asked, who was let in and how many seconds each was given."""

    def __init__(self, places: int, retry_after: int = 1, error: type[Overloaded] | type[ShareUsedUp] = Overloaded) -> None:
        self.free = places
        self.retry_after = retry_after
        self.error = error
        self.tried: list[str] = []
        self.entered: list[str] = []
        self.given: list[float] = []
        self.gone = asyncio.Event()

    def attempt(self, name: str) -> Callable[[float], Awaitable[str]]:
        async def ask(seconds: float) -> str:
            self.tried.append(name)
            self.given.append(seconds)
            if not self.free:
                raise self.error(FULL, self.retry_after)
            self.free -= 1
            self.entered.append(name)
            try:
                await self.gone.wait()
            finally:
                self.free += 1
            return f"answer of {name}"

        return ask


def until(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def begun(postponed: Postponed, room: Room, *names: str, key: str = "", seconds: float = 60) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(postponed.ask(key, until(seconds), room.attempt(name), seconds)) for name in names]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


def waiting(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("whyserve_explain_postponed")


@pytest.mark.parametrize("error", [Overloaded, ShareUsedUp])
async def test_who_is_refused_comes_back_when_told_to(error: type[Overloaded] | type[ShareUsedUp]):
    metrics = Metrics()
    room = Room(0, error=error)
    (asked,) = await begun(Postponed(metrics), room, "a")
    assert waiting(metrics) == 1
    room.free = 1
    room.gone.set()
    await asyncio.sleep(0.3)
    assert room.tried == ["a"]  # not before
    assert await asyncio.wait_for(asked, 20) == "answer of a"
    assert room.tried == ["a", "a"]
    assert room.given[0] == 60
    assert room.given[1] in (59, 60)
    assert waiting(metrics) == 0


async def test_they_go_in_the_order_in_which_they_came_a_try_at_a_time():
    room = Room(1)
    postponed = Postponed(Metrics())
    tasks = await begun(postponed, room, *"abcde")
    assert room.entered == ["a"]
    assert room.tried == ["a", "b"]  # the others see that somebody waits
    room.gone.set()
    assert await asyncio.wait_for(asyncio.gather(*tasks), 20) == [f"answer of {name}" for name in "abcde"]
    assert room.entered == ["a", "b", "c", "d", "e"]


async def test_one_that_is_done_makes_room_for_who_waits_longest_of_all_keys():
    room = Room(1, retry_after=600)
    postponed = Postponed(Metrics())
    tasks = await begun(postponed, room, "a", "b", key="ann") + await begun(postponed, room, "c", key="bob")
    tasks += await begun(postponed, room, "d", key="ann")
    room.gone.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 20)  # long before the ten minutes are over
    assert room.entered == ["a", "b", "c", "d"]


async def test_a_full_share_keeps_no_other_key_waiting():
    postponed = Postponed(Metrics())
    full, free = Room(0, 600, ShareUsedUp), Room(1)
    free.gone.set()
    (held,) = await begun(postponed, full, "a", key="ann")
    (other,) = await begun(postponed, free, "b", key="bob")
    assert await asyncio.wait_for(other, 20) == "answer of b"
    held.cancel()
    await asyncio.wait([held])


async def test_at_its_end_it_is_told_what_it_waited_for():
    metrics = Metrics()
    room = Room(0, retry_after=600)
    postponed = Postponed(metrics)
    first, second = await begun(postponed, room, "a", seconds=0.3) + await begun(postponed, room, "b", seconds=0.3)
    with pytest.raises(DeadlineExceeded, match=FULL):
        await first
    with pytest.raises(DeadlineExceeded, match="timeout"):
        await second
    assert waiting(metrics) == 0


async def test_told_to_come_back_too_late_it_comes_back_while_there_is_time():
    """What stands before it is only estimated."""
    room = Room(0, retry_after=600)
    room.gone.set()
    (asked,) = await begun(Postponed(Metrics()), room, "a", seconds=3)
    room.free = 1
    assert await asyncio.wait_for(asked, 20) == "answer of a"


@pytest.mark.parametrize("error", [BadParameter("no such label"), Unavailable("two explainers were lost", 5), DeadlineExceeded("late")])
async def test_what_another_time_would_not_change_is_said_at_once(error: WhyserveError):
    tried = []

    async def attempt(_: float) -> str:
        tried.append(1)
        raise error

    with pytest.raises(type(error), match=str(error)):
        await Postponed(Metrics()).ask("", until(60), attempt, 60)
    assert len(tried) == 1


async def test_who_is_cancelled_leaves_its_place_to_the_next():
    metrics = Metrics()
    room = Room(1, retry_after=600)
    postponed = Postponed(metrics)
    inside, second, third = await begun(postponed, room, *"abc")
    second.cancel()
    await asyncio.wait([second])
    assert waiting(metrics) == 1
    room.gone.set()
    await asyncio.wait_for(asyncio.gather(inside, third), 20)
    assert room.entered == ["a", "c"]
    assert waiting(metrics) == 0


async def test_several_that_are_done_at_about_the_same_time_call_one_that_waits():
    postponed, room = Postponed(Metrics()), Room(0, retry_after=600)
    ends = [asyncio.Event() for _ in range(10)]

    def inside(end: asyncio.Event) -> Callable[[float], Awaitable[str]]:
        async def ask(_: float) -> str:
            await end.wait()
            return "done"

        return ask

    running = [asyncio.create_task(postponed.ask("", until(60), inside(end), 60)) for end in ends]
    await asyncio.sleep(0)
    (waiter,) = await begun(postponed, room, "a")
    room.free = 1
    room.gone.set()
    for end in ends:
        end.set()
        await asyncio.sleep(0)
    assert await asyncio.wait_for(asyncio.gather(*running), 20) == ["done"] * 10
    assert await asyncio.wait_for(waiter, 20) == "answer of a"

"""Sleeps are never shorter than asked for, and not rounded to the milliseconds of an event loop's timers."""

from __future__ import annotations

import asyncio
import os
import sys
from time import perf_counter

import pytest
import uvloop

from service.benching.alarm import alarm


def slept(seconds: float, times: int) -> list[float]:
    async def sleep() -> list[float]:
        took = []
        with alarm() as clock:
            for _ in range(times):
                started = perf_counter()
                await clock.sleep(seconds)
                took.append(perf_counter() - started)
        return took

    return uvloop.run(sleep())


@pytest.mark.parametrize("seconds", [0.0002, 0.0006, 0.0014, 0.0026])
def test_a_sleep_is_as_long_as_asked_for(seconds: float) -> None:
    """uvloop's own would be 0, 1, 1 and 3 ms."""
    took = slept(seconds, 30)
    assert min(took) >= seconds
    if sys.platform == "linux":
        assert min(took) < seconds + 0.0003  # the least of many: others may have the processor now and then


def test_no_time_at_all_is_a_short_sleep() -> None:
    assert max(slept(0.0, 3)) < 1


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files in /proc")
def test_it_leaves_no_file_open_also_where_the_sleeper_was_cancelled() -> None:
    async def cancelled() -> None:
        with alarm() as clock:
            sleeping = asyncio.create_task(clock.sleep(60))
            await asyncio.sleep(0)
            sleeping.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sleeping
            started = perf_counter()
            await clock.sleep(0.001)  # set anew
            assert perf_counter() - started < 60

    async def counted() -> tuple[int, int]:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            await cancelled()
        return before, len(os.listdir("/proc/self/fd"))

    before, after = asyncio.run(counted())
    assert before == after

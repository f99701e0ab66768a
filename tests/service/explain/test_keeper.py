"""Explainer processes that hang, in all the ways there are, are replaced; those that go on, or aren't let to a processor, aren't."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psutil
import pytest

from service.errors import NotFound
from service.explain import remote
from service.explain.endpoint import Lost
from service.explain.keeper import Bounds, Keeper
from service.explain.message import Message, Reply
from service.explain.remote import End, Explainer

STALL = 1.0
linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux")


class Kept:
    """A keeper of processes that are played, and what it says of them."""

    def __init__(self, folder: Path) -> None:
        self.up: asyncio.Queue[Explainer] = asyncio.Queue()
        self.ends: asyncio.Queue[End] = asyncio.Queue()
        socket = folder / "s"
        self.keeper = Keeper(socket, [], Bounds(2**40, STALL, look=0.1), self.up.put_nowait, self.ends.put_nowait)
        self.keeper._command = [sys.executable, str(Path(__file__).with_name("explainer_played.py")), str(socket)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Explainer]:
        keeping = asyncio.create_task(self.keeper.keep())
        try:
            async with asyncio.timeout(60):
                yield await self.up.get()
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def asked(explainer: Explainer, model: str) -> asyncio.Task[Reply]:
    return asyncio.create_task(explainer.endpoint.ask(Message("status", model, 1, time.monotonic() + 60)))


@contextmanager
def busy_core() -> Iterator[int]:
    """A core that a process of the normal class doesn't leave until the end of the block."""
    core = min(os.sched_getaffinity(0))
    hog = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        os.sched_setaffinity(hog.pid, {core})
        yield core
    finally:
        hog.kill()
        hog.wait()


def pin(process: int, core: int) -> None:
    for thread in psutil.Process(process).threads():
        os.sched_setaffinity(thread.id, {core})


@pytest.mark.parametrize("model", ["spins", "spins-in-c", "waits"])
async def test_one_that_hangs_is_replaced(model: str, kept: Kept):
    async with kept.running() as explainer:
        with pytest.raises(Lost):
            await asked(explainer, model)
        assert await kept.ends.get() == "hung"


async def test_one_that_is_stopped_is_replaced(kept: Kept):
    async with kept.running() as explainer:
        psutil.Process(explainer.process.pid).suspend()
        assert await kept.ends.get() == "hung"
        assert (await kept.up.get()).process.pid != explainer.process.pid


async def test_a_job_that_hangs_beside_others_that_go_on_is_found(kept: Kept):
    """The other waits for its turn, and asks time and again whether it may go on."""
    async with kept.running() as explainer:
        hangs = asked(explainer, "waits")
        await asyncio.sleep(0.1)
        beside = asked(explainer, "goes-on")
        assert [type(error) for error in await asyncio.gather(hangs, beside, return_exceptions=True)] == [Lost, Lost]
        assert await kept.ends.get() == "hung"


async def test_one_that_takes_long_and_says_so_is_not(kept: Kept):
    """As a large model's loading does. A neighbour waits for its turn meanwhile."""
    async with kept.running() as explainer:
        neighbours = [asked(explainer, "goes-on") for _ in range(2)]
        for error in await asyncio.gather(*neighbours, return_exceptions=True):
            assert isinstance(error, NotFound)
    assert kept.ends.empty()


@linux
async def test_one_that_is_not_let_to_a_processor_is_not_and_answers_in_the_end(kept: Kept):
    async with kept.running() as explainer:
        with busy_core() as core:
            pin(explainer.process.pid, core)
            task = asked(explainer, "computes")
            await asyncio.sleep(3 * STALL)
            assert not task.done()
        with pytest.raises(NotFound):
            await task
    assert kept.ends.empty()


@linux
async def test_nor_while_it_starts(kept: Kept, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(remote, "START", 1.0)
    allowed = os.sched_getaffinity(0)
    with busy_core() as core:
        os.sched_setaffinity(0, {core})  # what is started takes after it
        keeping = asyncio.create_task(kept.keeper.keep())
        try:
            await asyncio.sleep(0.5)
        finally:
            os.sched_setaffinity(0, allowed)
        await asyncio.sleep(2.5)
        assert kept.up.empty()
    async with asyncio.timeout(60):
        await kept.up.get()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert kept.ends.empty()

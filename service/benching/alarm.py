"""Sleeps as short as asked for: an event loop's own timers are rounded to milliseconds, which is longer than many a request takes.

On Linux a timer of the kernel's that is read like a socket (timerfd_create(2)); elsewhere the event loop's own timers.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EAGAIN
from time import perf_counter
from typing import Protocol

_MONOTONIC = 1
"""CLOCK_MONOTONIC; `os.timerfd_create` exists from Python 3.13 on."""


class _Setting(ctypes.Structure):
    """struct itimerspec: the interval of a repeated alarm (none here), then the time until the first, each as seconds and nanoseconds."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


class Alarm(Protocol):
    async def sleep(self, seconds: float) -> None:
        """Returns after at least so many seconds."""


class _Timer:
    """A kernel's timer, for one sleeper at a time."""

    def __init__(self, libc: ctypes.CDLL, descriptor: int) -> None:
        self._libc = libc
        self._descriptor = descriptor
        self._rung: asyncio.Future[None] | None = None

    async def sleep(self, seconds: float) -> None:
        whole, rest = divmod(max(1, round(seconds * 1e9)), 10**9)  # a time of 0 would stop the timer
        self._rung = asyncio.get_running_loop().create_future()
        self._libc.timerfd_settime(self._descriptor, 0, ctypes.byref(_Setting(0, 0, whole, rest)), None)
        await self._rung

    def ring(self) -> None:
        """The timer can be read."""
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return  # set anew meanwhile
        if self._rung is not None and not self._rung.done():
            self._rung.set_result(None)


class _Rounded:
    """The event loop's timers, again until the time is over: they may be early, too."""

    async def sleep(self, seconds: float) -> None:
        end = perf_counter() + seconds
        while (left := end - perf_counter()) > 0:  # noqa: ASYNC110  # it waits for nothing but time
            await asyncio.sleep(left)


@contextmanager
def alarm() -> Iterator[Alarm]:
    """An alarm of the running loop. Raises OSError where the kernel gives no timer."""
    if sys.platform != "linux":
        yield _Rounded()
        return
    loop = asyncio.get_running_loop()
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.timerfd_create(_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        raise OSError(ctypes.get_errno() or EAGAIN, "timerfd_create")
    timer = _Timer(libc, descriptor)
    loop.add_reader(descriptor, timer.ring)
    try:
        yield timer
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)

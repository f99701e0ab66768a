"""Asynchronous explanations that the explainers' line has no room for: they come back within their time, as a patient client would."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from service.errors import DeadlineExceeded, Overloaded, ShareUsedUp
from service.telemetry import Metrics

Result = TypeVar("Result")
Attempt = Callable[[float], Awaitable[Result]]
"""Asks once, to be answered within so many seconds."""
NEXT = 0.02
"""Seconds after one was called that the next one is: a full line has refused the former by then, on this machine at least."""
_SHORTEST = 1.0
"""Seconds between two tries of the same at least, as Retry-After has it."""


@dataclass(frozen=True, slots=True, order=True)
class _Waiter:
    number: int
    turn: asyncio.Future[None] = field(compare=False)


class _Queue:
    """Those of one key that wait, in the order in which they were first asked. The first of them is called when it opens."""

    def __init__(self) -> None:
        self._waiting: list[_Waiter] = []
        self._opens = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def first(self) -> int:
        """The number of who waits longest."""
        return self._waiting[0].number

    async def turn(self, number: int) -> None:
        """Returns when it is this one's turn to try."""
        waiter = _Waiter(number, asyncio.get_running_loop().create_future())
        heapq.heappush(self._waiting, waiter)
        self.open(self._opens)
        try:
            await waiter.turn
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
                heapq.heapify(self._waiting)
                self.open(self._opens)

    def open(self, at: float) -> None:
        """Calls the first then, by the loop's clock, and not before."""
        self._opens = at
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(at, self._call) if self._waiting else None

    def hasten(self) -> None:
        """Calls the first now, whatever it was told."""
        if (now := asyncio.get_running_loop().time()) < self._opens:
            self.open(now)

    def _call(self) -> None:
        waiter = heapq.heappop(self._waiting)
        if not waiter.turn.done():
            waiter.turn.set_result(None)
        self.open(asyncio.get_running_loop().time() + NEXT)


class Postponed:
    """Who is refused for want of room (Overloaded, ShareUsedUp) waits for as long as it was told to, or until one that was let in
    is done, and tries again. Those of the same key that come meanwhile wait behind it, so a crowd costs a try at a time.

    It waits here and not in the line: that is short, so that whoever waits at the other end finds room there.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._queues: dict[str, _Queue] = {}
        self._numbers = itertools.count()
        metrics.postponed.set_function(lambda: sum(map(len, self._queues.values())))

    async def ask(self, key: str, deadline: float, attempt: Attempt[Result], seconds: float) -> Result:
        """What `attempt` answers, given `seconds`, or what is left of them, in whole seconds, until `deadline` by the loop's clock:
        so those who ask for the same at about the same time still have the same time, and share what is computed.

        Raises what `attempt` raises, and DeadlineExceeded where it found no room in time.
        """
        clock, number, refused = asyncio.get_running_loop().time, next(self._numbers), None
        if key in self._queues:
            await self._turn(key, number, deadline, refused)
        while (left := deadline - clock()) > 0:
            try:
                return await self._tried(attempt, min(seconds, math.ceil(left)))
            except (Overloaded, ShareUsedUp) as error:
                refused = error
            # Told to come back too late, it comes back while there is time: what stands before it is estimated.
            pause = min(refused.retry_after or _SHORTEST, max((deadline - clock()) / 2, _SHORTEST))
            self._queues.setdefault(key, _Queue()).open(clock() + pause)
            await self._turn(key, number, deadline, refused)
        raise _no_room(refused)

    async def _tried(self, attempt: Attempt[Result], seconds: float) -> Result:
        """The answer; whatever comes of it but a refusal, one has left the line."""
        inside = True
        try:
            return await attempt(seconds)
        except (Overloaded, ShareUsedUp):
            inside = False
            raise
        finally:
            if inside:
                self._room()

    async def _turn(self, key: str, number: int, deadline: float, refused: Exception | None) -> None:
        queue = self._queues[key]
        try:
            async with asyncio.timeout_at(deadline):
                await queue.turn(number)
        except TimeoutError:
            raise _no_room(refused) from None
        finally:
            if not queue and self._queues.get(key) is queue:
                del self._queues[key]

    def _room(self) -> None:
        """One has left the line: whoever waits longest may try."""
        if queues := [queue for queue in self._queues.values() if queue]:  # one may have been called and not have left yet
            min(queues, key=lambda queue: queue.first).hasten()


def _no_room(refused: Exception | None) -> DeadlineExceeded:
    why = "others of the same key came before it" if refused is None else refused
    return DeadlineExceeded(f"no explainer had room for this in time (parameter 'timeout'): {why}")

"""Explanations asked for asynchronously: computed while nobody waits, kept for a while, bounded in number and in bytes."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from service.errors import NotFound, ShareUsedUp, TooLarge, Unavailable
from service.telemetry import Metrics

Result = TypeVar("Result")
_ID_BYTES = 24


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """`most` explanations of `size` bytes in all, each for `seconds` after it was computed; the part `share` for one key."""

    most: int
    size: int
    seconds: float
    share: float = 1.0


@dataclass(slots=True, eq=False)
class Stored(Generic[Result]):
    """One explanation; `task` ends with it, or with the error that it met."""

    id: str
    owner: str
    size: int
    task: asyncio.Task[Result]
    expiry: asyncio.TimerHandle | None = None
    """Set once it is computed."""


class Store(Generic[Result]):
    """By id, which can't be guessed and is of use to its owner only.

    What was promised is kept: where the store is full the new one is refused, and no older one goes before its time.
    """

    def __init__(self, limits: StoreLimits, metrics: Metrics) -> None:
        self._limits = limits
        self._stored: dict[str, Stored[Result]] = {}
        self._size = 0
        metrics.stored.set_function(lambda: len(self._stored))
        metrics.stored_bytes.set_function(lambda: self._size)

    def require_room(self, owner: str, size: int) -> None:
        """Raises TooLarge for what could never be kept, ShareUsedUp where the owner has a key and keeps its share already,
        Unavailable where there is no room just now. A key that keeps nothing is given room where there is any."""
        if size > self._limits.size:
            most = f"{self._limits.size >> 20} MiB (setting WHYSERVE_STORED_EXPLANATIONS_MIB)"
            raise TooLarge(f"this explanation takes about {size / 2**20:.0f} MiB to keep, at most {most}; ask for it without respond-async")
        self._require_share(owner, size)
        full = len(self._stored) >= self._limits.most
        if full or self._size + size > self._limits.size:
            setting = "WHYSERVE_STORED_EXPLANATIONS" + ("" if full else "_MIB")
            raise Unavailable(f"no room for another asynchronous explanation (setting {setting})", _next_room(self._stored.values()))

    def add(self, owner: str, size: int, work: Coroutine[Any, Any, Result]) -> Stored[Result]:
        """Begins the work, for which there has to be room, and keeps what comes of it."""
        stored = Stored(secrets.token_urlsafe(_ID_BYTES), owner, size, asyncio.create_task(work))
        self._stored[stored.id] = stored
        self._size += size
        stored.task.add_done_callback(lambda _: self._done(stored))
        return stored

    def get(self, owner: str, identifier: str) -> Stored[Result]:
        """Raises NotFound, in the same words for one that is another's."""
        stored = self._stored.get(identifier)
        if stored is None or stored.owner != owner:
            raise NotFound("no such explanation here: it is unknown, another key's, was deleted, or its time is over")
        return stored

    def remove(self, stored: Stored[Result]) -> None:
        """Forgets it, and cancels it where it still runs."""
        if self._stored.pop(stored.id, None) is None:
            return
        self._size -= stored.size
        stored.task.cancel()
        if stored.expiry is not None:
            stored.expiry.cancel()

    async def close(self) -> None:
        """Cancels what runs, forgets all."""
        tasks = [stored.task for stored in self._stored.values()]
        for stored in list(self._stored.values()):
            self.remove(stored)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, stored: Stored[Result]) -> None:
        if not stored.task.cancelled():
            stored.task.exception()  # looked at: nobody may ever ask for it
        if stored.id in self._stored:
            stored.expiry = asyncio.get_running_loop().call_later(self._limits.seconds, self.remove, stored)

    def _require_share(self, owner: str, size: int) -> None:
        own = [stored for stored in self._stored.values() if stored.owner == owner] if owner else []
        share = self._limits.share
        full = len(own) >= max(1, int(share * self._limits.most))
        if own and (full or sum(stored.size for stored in own) + size > share * self._limits.size):
            why = "this key keeps its share of asynchronous explanations already (setting WHYSERVE_KEY_SHARE); delete one"
            raise ShareUsedUp(why, _next_room(own))


def _next_room(stored: Iterable[Stored[Any]]) -> int:
    """Seconds until the next one's time is over; 1 where all are still being computed, which may be done any moment."""
    ends = [one.expiry.when() for one in stored if one.expiry is not None]
    return max(1, math.ceil(min(ends) - asyncio.get_running_loop().time())) if ends else 1

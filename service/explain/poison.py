"""Messages that have ended two explainers: not tried a third time for a while."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import orjson

from service.errors import Unavailable
from service.explain.message import Message

QUARANTINE = 600.0
"""Seconds."""
_MOST = 256


class Poison:
    """Remembered by content, whatever their deadline or sender."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[bytes, float] = {}

    def check(self, message: Message) -> None:
        """Raises Unavailable where it is one of them."""
        if self._until and (left := self.left(message)):
            raise Unavailable("this very request has ended two explainers: it isn't tried again for now", left)

    def add(self, message: Message) -> None:
        if len(self._until) >= _MOST:
            del self._until[next(iter(self._until))]
        self._until[_content(message)] = self._clock() + QUARANTINE

    def left(self, message: Message) -> int:
        """Whole seconds until it may be tried again, 0 where it may now."""
        return max(0, math.ceil(self._until.get(_content(message), 0.0) - self._clock()))


def _content(message: Message) -> bytes:
    named = hashlib.blake2b(orjson.dumps([message.path, dict(message.header)]), digest_size=16)
    named.update(message.blobs)
    return named.digest()

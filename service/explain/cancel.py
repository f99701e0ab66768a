"""Stopping a computation that runs in another thread: between chunks it asks whether anybody still waits."""

from __future__ import annotations

import threading
import time


class Cancelled(Exception):
    """Nobody waits for this any more."""


class TimeUp(Exception):
    """The deadline has passed; what is known so far may still be an answer."""


class Token:
    """Held by who waits (`cancel`) and by who computes (`check`). `seconds` from now is the deadline."""

    def __init__(self, seconds: float = float("inf")) -> None:
        self._cancelled = threading.Event()
        self._steps = [time.monotonic()]
        """When the last step was taken; shared with the parts."""
        self._deadline = time.monotonic() + seconds

    def cancel(self) -> None:
        self._cancelled.set()

    def within(self, seconds: float) -> Token:
        """One for a part of the work: cancelled together with this one, due at the latest `seconds` from now."""
        part = Token(min(seconds, self.remaining))
        part._cancelled, part._steps = self._cancelled, self._steps
        return part

    def to_its_end(self) -> Token:
        """One for a part of the work that others may wait for, too: its steps are this one's, but it is never cancelled or due."""
        part = Token()
        part._steps = self._steps
        return part

    @property
    def remaining(self) -> float:
        """Seconds to the deadline, negative beyond it."""
        return self._deadline - time.monotonic()

    @property
    def still(self) -> float:
        """Seconds since the last step: a computation that hangs takes none."""
        return time.monotonic() - self._steps[0]

    def check(self) -> None:
        """For who computes, before each step, or waits for its turn to compute. Raises Cancelled or TimeUp."""
        self._steps[0] = time.monotonic()
        if self._cancelled.is_set():
            raise Cancelled
        if self.remaining <= 0:
            raise TimeUp

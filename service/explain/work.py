"""How much work an explanation will be: from what others of its model and method have cost."""

from __future__ import annotations

from typing import Any

from service.explain.message import Message

FIRST_GUESS = 0.1
"""Seconds of an instance whose model and method nobody has asked for yet: low, for a wrong refusal is worse than a late answer."""
SLOWER, FASTER = 0.2, 0.5
"""Weight of the newest measurement: the first one, with the model's loading in it, shall be forgotten soon."""
_MOST = 1024
"""Models and methods that are remembered."""


class Estimates:
    """Seconds an instance by model, version, method and what scales its work (steps, samples), an exponential average each."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[Any, ...], float] = {}

    def of(self, message: Message) -> float:
        """Estimated seconds of one process."""
        return self._seconds.get(_key(message), FIRST_GUESS) * max(1, message.instances)

    def learn(self, message: Message, seconds: float) -> None:
        """What it has cost, in seconds of one process."""
        key, measured = _key(message), seconds / max(1, message.instances)
        known = self._seconds.pop(key, measured)
        self._seconds[key] = known + (SLOWER if measured > known else FASTER) * (measured - known)
        if len(self._seconds) > _MOST:
            del self._seconds[next(iter(self._seconds))]  # the one learnt longest ago


def _key(message: Message) -> tuple[Any, ...]:
    scale = tuple(str(message.parameters.get(name, "")) for name in ("steps", "n_samples", "tolerance", "integration_tolerance", "quality"))
    return (message.kind, message.model, message.version, message.method, scale)


class Meter:
    """Seconds of a process that each of its jobs takes: jobs that run side by side share the time between them."""

    def __init__(self, now: float) -> None:
        self._at = now
        self._shared = 0.0
        self.jobs = 0

    def begin(self, now: float) -> float:
        """A job begins: the mark to end it with."""
        self._advance(now)
        self.jobs += 1
        return self._shared

    def end(self, mark: float, now: float) -> float:
        """A job ends: the seconds that were its own."""
        self._advance(now)
        self.jobs -= 1
        return self._shared - mark

    def _advance(self, now: float) -> None:
        if self.jobs:
            self._shared += (now - self._at) / self.jobs
        self._at = now

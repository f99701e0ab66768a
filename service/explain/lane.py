"""One thread at a time computes: whoever has the lane, until it hands it on itself.

Explanations run side by side in threads of their own, but threads that compute side by side on one processor only hold each other
up, and each that could run takes its slices from the server. So the lane goes from hand to hand like a baton: who waits sleeps until
it is given it, those that have little to do before they wait again go first, and then those with a pass to compute, oldest first.
By then all rows that can be there for a pass are there.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from service.explain.cancel import Token

PATIENCE = 0.1
"""Seconds between two looks at whether anybody still waits for what a thread is to compute."""


class Place:
    """A thread's in the queue for the lane: of those that go on, or of those that compute long."""

    __slots__ = ("given", "long", "thread")

    def __init__(self, long: bool = False) -> None:
        self.long = long
        self.thread = threading.get_ident()
        self.given = threading.Lock()
        self.given.acquire()


class Lane:
    """The thread that has it may take it again."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._owner: int | None = None
        self._depth = 0
        self._undivided = 0
        self._going_on: deque[Place] = deque()
        self._computing: deque[Place] = deque()

    @contextmanager
    def held(self, token: Token, *, undivided: bool = False) -> Iterator[None]:
        """Has the lane inside the block; `undivided`: from its beginning to its end, else others have it while a `turn` is waited
        for. Raises what `token` raises while it waits."""
        if not self._mine:
            self._take(Place(), token)
        self._depth += 1
        self._undivided += undivided
        try:
            yield
        finally:
            if self._mine:  # it isn't after a turn that was never given
                self._undivided -= undivided
                self._depth -= 1
                if self._depth == 0:
                    self._hand_on()

    @contextmanager
    def turn(self, token: Token, place: Place) -> Iterator[None]:
        """Has the lane inside the block for long work, once nobody can go on without: also where this thread has it already."""
        if not self._mine:
            self._take(place, token)
            with self.held(token):
                yield
            return
        if not self._undivided and (self._going_on or self._computing):
            depth = self._depth
            self._hand_on(place)
            self._wait(place, token)
            self._depth = depth
        yield

    @contextmanager
    def alone(self, token: Token) -> Iterator[None]:
        """Has the lane inside the block from its beginning to its end, for long work that shares no passes."""
        with self.turn(token, Place(long=True)), self.held(token, undivided=True):
            yield

    def hurry(self, place: Place) -> None:
        """What this place's thread wanted to compute has been: it only goes on."""
        with self._guard, suppress(ValueError):  # it has left meanwhile
            self._computing.remove(place)
            self._going_on.append(place)

    @property
    def _mine(self) -> bool:
        return self._owner == threading.get_ident()

    def _take(self, place: Place, token: Token) -> None:
        with self._guard:
            if self._owner is None:
                self._owner = place.thread
                return
            self._queue(place)
        self._wait(place, token)

    def _queue(self, place: Place) -> None:
        (self._computing if place.long else self._going_on).append(place)

    def _hand_on(self, own: Place | None = None) -> None:
        """To the next one; `own` is where this thread waits for it to come back."""
        with self._guard:
            if own is not None:
                self._queue(own)
            self._depth = 0
            queue = self._going_on or self._computing
            following = queue.popleft() if queue else None
            self._owner = None if following is None else following.thread
        if following is not None:
            following.given.release()

    def _wait(self, place: Place, token: Token) -> None:
        """Until it is given the lane. Raises what `token` raises, the lane not taken."""
        while not place.given.acquire(timeout=PATIENCE):
            try:
                token.check()
            except Exception:
                self._leave(place)
                raise

    def _leave(self, place: Place) -> None:
        with self._guard:
            for queue in (self._going_on, self._computing):
                if place in queue:
                    queue.remove(place)
                    return
        self._hand_on()  # it has been given the lane in this very moment

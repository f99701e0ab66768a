"""What comes together, one after the other: turns on the event loop."""

from __future__ import annotations

import asyncio
from collections import deque

GAP = 4
"""Rounds of the event loop from one turn to the next: what follows on an explainer's answer takes that many, a step in each."""


class Apart:
    """Gives turns, so many rounds of the event loop apart. In each round it looks for what came meanwhile.

    Explanations that shared their passes are answered at once. All of them worked on in the same rounds would make a prediction
    wait for all, each of them several times as long as it takes itself.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._rounds = 0
        """Until the next turn; 0 where whoever comes needn't wait."""

    async def turn(self) -> None:
        """At once, where nobody had a turn just before."""
        loop = asyncio.get_running_loop()
        if self._rounds:
            turn = loop.create_future()
            self._waiting.append(turn)
            await turn
            return
        self._rounds = GAP
        loop.call_soon(self._round, loop)

    def _round(self, loop: asyncio.AbstractEventLoop) -> None:
        self._rounds -= 1
        if not self._rounds and self._give():
            self._rounds = GAP
        if self._rounds:
            loop.call_soon(self._round, loop)

    def _give(self) -> bool:
        """Whether somebody took the turn; who was cancelled doesn't."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return True
        return False

"""Predictions before explanations, on the event loop that both are worked on."""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic

QUIET = 5
"""Rounds of the event loop without a prediction's beginning or end after which none is at hand: one that runs on the loop has its
answer in fewer. An idle loop takes some 5 us for each."""
GAP = 4
"""Rounds from one turn to the next: what follows on an explainer's answer takes that many, a step in each."""
PATIENCE = 0.01
"""Seconds that a turn waits for the loop to become quiet: predictions that never leave it leave an explanation a hundred turns a second."""
STILL = 0.02
"""Seconds without a prediction after which none is expected: then a turn is given at once, without rounds to look out for one."""
APART = 0.0005
"""Seconds from one such turn to the next: what is done in a turn for a small network's explanation takes about as long."""
LONGEST = 0.25
"""Seconds that the last of many waits for its turn, about: a thousand requests that come at once shall be refused soon."""


class Precedence:
    """Gives turns to explanations one after the other, each once the loop has nothing to do for predictions.

    An explanation is computed elsewhere, but what is done for it here takes several times as long as a small network's prediction,
    and explanations that shared their passes come back together: a prediction that comes then would wait for all of them.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._predictions = 0
        """How often one has begun or ended."""
        self._seen = 0
        """As of the last round, or of the last turn asked for while none were counted."""
        self._quiet = 0
        """Rounds since then without any."""
        self._left = 0
        """Rounds until the next turn may come."""
        self._since = 0.0
        """When the last turn was given, or somebody came to wait for one."""
        self._turning = False
        """Whether rounds are counted."""
        self._changed = 0.0
        """When predictions were last found to have begun or ended."""

    def prediction(self) -> None:
        """One begins or ends just now."""
        self._predictions += 1

    async def turn(self) -> None:
        """Returns when it's an explanation's turn."""
        now = monotonic()
        if not self._turning:
            self._look(now)
            if now - self._changed >= STILL and now - self._since >= APART:
                self._left, self._since = GAP, now
                return
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(turn)
        if not self._turning:
            self._turning, self._quiet, self._since = True, 0, now
            loop.call_soon(self._round, loop)
        await turn

    def _look(self, now: float) -> None:
        """Whether predictions have begun or ended."""
        if self._predictions == self._seen:
            self._quiet += 1
        else:
            self._seen, self._changed, self._quiet = self._predictions, now, 0

    def _round(self, loop: asyncio.AbstractEventLoop) -> None:
        now = monotonic()
        self._look(now)
        self._left -= 1
        if self._left <= 0 and (self._quiet >= QUIET or now - self._since >= self._patience) and self._give():
            self._left, self._since = GAP, now
        self._turning = bool(self._waiting) or self._left > 0
        if self._turning:
            loop.call_soon(self._round, loop)

    @property
    def _patience(self) -> float:
        return min(PATIENCE, LONGEST / max(1, len(self._waiting)))

    def _give(self) -> bool:
        """Whether somebody took the turn; who was cancelled doesn't."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return True
        return False

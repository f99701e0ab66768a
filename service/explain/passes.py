"""Rows of several explanations of one model in one pass, and one pass at a time.

Explanations run side by side in threads of their own. Whoever has the lane takes along what the others wait to have computed
by the same part of the same model; they find their share done when their turn comes (flat combining: Hendler, Incze, Shavit,
Tzafrir 2010, https://doi.org/10.1145/1810479.1810540). Nobody waits for company: a pass is as large as the queue happens to be.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from service.explain.cancel import Token

Block = TypeVar("Block")
Result = TypeVar("Result")
PATIENCE = 0.1
"""Seconds between two looks at whether anybody still waits for what a thread is to compute."""


class Lane:
    """Computing, one thread at a time: torch's operators fill the cores themselves, and memory is bounded for one pass.

    The thread that has it may take it again.
    """

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._owner: int | None = None
        self._depth = 0

    @contextmanager
    def held(self, token: Token, unless: Callable[[], bool] = lambda: False) -> Iterator[bool]:
        """Has the lane inside the block (True), or not (False) where `unless` came true before it was free. Raises what
        `token` raises while it waits."""
        got = self._take(token, unless)
        try:
            yield got
        finally:
            if got:
                self._give()

    def _take(self, token: Token, unless: Callable[[], bool]) -> bool:
        me = threading.get_ident()
        with self._turn:
            while self._owner not in (None, me):
                if unless():
                    return False
                token.check()
                self._turn.wait(PATIENCE)
            if unless():
                return False
            self._owner = me
            self._depth += 1
            return True

    def _give(self) -> None:
        with self._turn:
            self._depth -= 1
            if self._depth == 0:
                self._owner = None
                self._turn.notify_all()


@dataclass(slots=True, eq=False)
class _Asked(Generic[Block, Result]):
    block: Block
    rows: int
    outcome: Result | None = None
    failed: bool = False

    @property
    def settled(self) -> bool:
        return self.outcome is not None or self.failed


class Passes:
    """The passes of one model over a lane. `run` of all calls with an equal `key` does the same to any list of blocks, one
    result a block."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self._waiting: dict[Hashable, list[_Asked[Any, Any]]] = {}
        self._guard = threading.Lock()

    def through(
        self, key: Hashable, block: Block, rows: int, most: int, run: Callable[[Sequence[Block]], Sequence[Result]], token: Token
    ) -> Result:
        """What `run` makes of the block, together with others' of the same key, up to `most` rows in all.

        Where a shared pass fails each block is tried alone, so that nobody fails for a neighbour. Raises what `run` and `token`
        raise.
        """
        asked: _Asked[Block, Result] = _Asked(block, rows)
        with self._guard:
            self._waiting.setdefault(key, []).append(asked)
        try:
            with self.lane.held(token, lambda: asked.outcome is not None) as mine:
                if mine and not asked.settled:
                    self._run(self._company(key, asked, most), run)
                if asked.outcome is None:
                    (asked.outcome,) = run([asked.block])
        finally:
            self._leave(key, asked)
        return asked.outcome

    def _company(self, key: Hashable, asked: _Asked[Any, Any], most: int) -> list[_Asked[Any, Any]]:
        """The block and those that wait beside it, oldest first, as many as fit."""
        chosen, rows = [asked], asked.rows
        with self._guard:
            for other in self._waiting[key]:
                if other is not asked and not other.settled and rows + other.rows <= most:
                    chosen.append(other)
                    rows += other.rows
        return chosen

    def _run(self, chosen: list[_Asked[Any, Any]], run: Callable[[Sequence[Any]], Sequence[Any]]) -> None:
        if len(chosen) == 1:
            return  # the caller runs it, and gets its error
        try:
            outcomes = run([one.block for one in chosen])
        except Exception:
            for one in chosen:
                one.failed = True
            return
        for one, outcome in zip(chosen, outcomes, strict=True):
            one.outcome = outcome

    def _leave(self, key: Hashable, asked: _Asked[Any, Any]) -> None:
        with self._guard:
            left = [other for other in self._waiting[key] if other is not asked]
            if left:
                self._waiting[key] = left
            else:
                del self._waiting[key]

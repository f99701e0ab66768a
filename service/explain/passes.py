"""Rows of several explanations of one model in one pass, and one pass at a time.

Explanations run side by side in threads of their own. Whoever has the lane takes along what the others wait to have computed
by the same part of the same model; they find their share done when they are given the lane (flat combining: Hendler, Incze, Shavit,
Tzafrir 2010, https://doi.org/10.1145/1810479.1810540). Nobody waits for company that isn't there yet: a pass is computed as soon as
nobody in the process can go on without one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from service.explain.cancel import Token
from service.explain.lane import Lane, Place

Block = TypeVar("Block")
Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class _Asked(Generic[Block, Result]):
    block: Block
    rows: int
    place: Place = field(default_factory=lambda: Place(long=True))
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
            with self.lane.turn(token, asked.place):
                if not asked.settled:
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
            self.lane.hurry(one.place)

    def _leave(self, key: Hashable, asked: _Asked[Any, Any]) -> None:
        with self._guard:
            left = [other for other in self._waiting[key] if other is not asked]
            if left:
                self._waiting[key] = left
            else:
                del self._waiting[key]

"""Dynamic batching without waiting: what is there runs at once, what arrives meanwhile is the next batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np

from service.engine.session import Session

Feeds = Mapping[str, np.ndarray]

_QUIET_TURNS = 2
"""Of the event loop: one in which a request is read from its socket, one in which its task gets here."""


class BatchReport(NamedTuple):
    """What one run of the model was: rows, and how long its oldest block had waited, in seconds."""

    rows: int
    waited: float
    computed: float


class _Block(NamedTuple):
    """Rows of one request: arrays (n, ...) by input name, in the order of the graph's inputs."""

    feeds: Feeds
    rows: int
    key: list[tuple[int, ...]]
    arrived: float
    answer: asyncio.Future[list[np.ndarray]]


class Batcher:
    """Runs blocks of rows on a session, those of equal shape together.

    `executor` None runs the model on the event loop itself: for a model that takes less time than a hop to a thread and
    back (a run of a small network is about 60 us, the hop about as much). Blocks that the event loop reads in one turn
    still share a run, because the run is put at the end of that turn. With an executor one run is in flight at a time,
    and what arrives meanwhile is batched.

    A run that fails is repeated block by block, so that each request gets its own reason and a bad one doesn't take
    its neighbours with it. A block whose request has gone is dropped before it runs.
    """

    def __init__(
        self,
        session: Session,
        *,
        max_rows: int,
        mix: bool,
        executor: Executor | None,
        report: Callable[[BatchReport], None],
    ) -> None:
        self._session = session
        self._max_rows = max_rows
        self._mix = mix
        self._executor = executor
        self._report = report
        self._waiting: list[_Block] = []
        self._busy = False
        self._alone = False
        """Whether the last run had one block only: then nobody is looked for, and the next one goes at once."""

    @property
    def inline(self) -> bool:
        """Whether the model runs on the event loop."""
        return self._executor is None

    @property
    def max_rows(self) -> int:
        """Of a run of several blocks; a block of more rows runs as it is."""
        return self._max_rows

    @property
    def waiting(self) -> int:
        """Blocks that no run has taken yet."""
        return len(self._waiting)

    def run(self, feeds: Feeds) -> asyncio.Future[list[np.ndarray]]:
        """Outputs (n, ...) for inputs (n, ...). Awaiting them raises ModelFailed; cancelling them takes the rows out of their batch."""
        loop = asyncio.get_running_loop()
        shapes = [array.shape for array in feeds.values()]
        block = _Block(feeds, shapes[0][0], [shape[1:] for shape in shapes], time.monotonic(), loop.create_future())
        self._waiting.append(block)
        if not self._busy:
            self._busy = True
            loop.call_soon(self._gather, loop, len(self._waiting), _QUIET_TURNS)
        return block.answer

    def _gather(self, loop: asyncio.AbstractEventLoop, seen: int, turns: int) -> None:
        """Runs the next batch once the loop has turned `turns` times without anybody new.

        A turn is some microseconds, no wait: it reads what has arrived at the sockets meanwhile. Without it eight clients
        that are answered together come back as one and seven, and the one pays for reading the weights again.
        """
        if self.inline and turns > 0 and not self._alone and len(self._waiting) < self._max_rows:
            left = turns - 1 if len(self._waiting) == seen else _QUIET_TURNS
            loop.call_soon(self._gather, loop, len(self._waiting), left)
        else:
            self._next(loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        batch = self._take()
        if not batch:
            self._busy = False
            return
        started = time.monotonic()
        if self._executor is None:
            self._finish(loop, batch, started, _attempt(self._session, batch))
            return
        try:
            self._executor.submit(self._work, loop, batch, started)
        except RuntimeError as error:  # the executor was shut down: nobody may be left waiting
            self._finish(loop, batch, started, [error] * len(batch))

    def _work(self, loop: asyncio.AbstractEventLoop, batch: list[_Block], started: float) -> None:
        """On a thread of the executor. `run_in_executor` would bring the outcome back by two futures and a turn of the loop more."""
        loop.call_soon_threadsafe(self._finish, loop, batch, started, _attempt(self._session, batch))

    def _take(self) -> list[_Block]:
        """The oldest block and those of its shape behind it, up to the largest batch."""
        self._waiting = [block for block in self._waiting if not block.answer.done()]
        if not self._waiting:
            return []
        first, *others = self._waiting
        batch, rows, left = [first], first.rows, []
        for block in others:
            if self._mix and block.key == first.key and rows + block.rows <= self._max_rows:
                batch.append(block)
                rows += block.rows
            else:
                left.append(block)
        self._waiting = left
        return batch

    def _finish(
        self, loop: asyncio.AbstractEventLoop, batch: list[_Block], started: float, outcomes: list[list[np.ndarray] | Exception]
    ) -> None:
        rows = sum(block.rows for block in batch)
        self._alone = len(batch) == 1
        self._report(BatchReport(rows, started - batch[0].arrived, time.monotonic() - started))
        for block, outcome in zip(batch, outcomes, strict=True):
            if block.answer.done():
                continue
            if isinstance(outcome, Exception):
                block.answer.set_exception(outcome)
            else:
                block.answer.set_result(outcome)
        if self._waiting:
            loop.call_soon(self._gather, loop, len(self._waiting), _QUIET_TURNS)
        else:
            self._busy = False


def _attempt(session: Session, batch: list[_Block]) -> list[list[np.ndarray] | Exception]:
    """Each block's outputs, or the reason why it has none."""
    try:
        return list(_run(session, batch))
    except Exception as error:
        if len(batch) == 1:
            return [error]
        return [_attempt(session, [block])[0] for block in batch]


def _run(session: Session, batch: list[_Block]) -> list[list[np.ndarray]]:
    if len(batch) == 1:
        return [session.run(batch[0].feeds)]
    outputs = session.run({name: np.concatenate([block.feeds[name] for block in batch]) for name in batch[0].feeds})
    answers, start = [], 0
    for block in batch:
        answers.append([output[start : start + block.rows] for output in outputs])  # views, no copy
        start += block.rows
    return answers

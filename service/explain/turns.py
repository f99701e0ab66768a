"""Whose turn it is: the places at the explainer processes, given to those who stand first in line. Imports no torch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.errors import DeadlineExceeded
from service.explain.line import Line, Ticket
from service.explain.message import Message
from service.explain.remote import Explainer

JOBS = 8
"""Messages that a process has at once: those of one model share its passes."""
PATIENT = JOBS // 2
"""Asynchronous ones among them at most: they may take long, and an interactive one that comes then shall find a place."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    message: Message
    alone: bool
    turn: asyncio.Future[Explainer]


class Turns:
    """Places at the explainers that are `alive`, by the order of `line`; `waited` is told the seconds that each has waited."""

    def __init__(self, line: Line, alive: Callable[[], Sequence[Explainer]], waited: Callable[[float], None]) -> None:
        self._line = line
        self._alive = alive
        self._waited = waited
        self._waiting: dict[Ticket, _Waiting] = {}

    async def come(self, ticket: Ticket, message: Message, *, alone: bool = False) -> Explainer:
        """Waits for a place, at an explainer that does nothing else where it is to be `alone`; whoever gets it says when it is
        `over`. Raises DeadlineExceeded, and what `give_up` was told.

        Once a ticket has come it runs, also where its asker leaves in that very moment. Whoever leaves takes the ticket out of
        the line and calls the next.
        """
        turn: asyncio.Future[Explainer] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = _Waiting(message, alone, turn)
        self.call()
        try:
            async with asyncio.timeout(max(message.left, 0)):
                return await turn
        except (TimeoutError, asyncio.CancelledError) as end:
            # The place may have come together with the deadline, or the hang-up.
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.over(turn.result(), message)
            if isinstance(end, TimeoutError):
                raise DeadlineExceeded("no explainer was free in time (parameter 'timeout')") from None
            raise
        finally:
            self._waiting.pop(ticket, None)

    def over(self, explainer: Explainer, message: Message) -> None:
        """The message's place is free again."""
        explainer.taken -= 1
        explainer.patient -= not message.caller.interactive
        explainer.alone = False
        explainer.models[message.model, message.version] -= 1
        self.call()

    def give_up(self, why: Exception) -> None:
        """There will be no explainer any more: nobody need wait on."""
        for waiting in self._waiting.values():
            if not waiting.turn.done():
                waiting.turn.set_exception(why)

    def call(self) -> None:
        """Gives their turn to those who stand first, as long as there is room for them."""
        while (found := self._next()) is not None:
            ticket, explainer = found
            waiting = self._waiting.pop(ticket)
            explainer.alone = waiting.alone
            explainer.taken += 1
            explainer.patient += not waiting.message.caller.interactive
            explainer.models[waiting.message.model, waiting.message.version] += 1
            self._waited(self._line.start(ticket))
            waiting.turn.set_result(explainer)

    def _next(self) -> tuple[Ticket, Explainer] | None:
        """Who stands first or, where that is an asynchronous one that has no place yet, the first interactive one."""
        first = self._line.first()
        found = self._placed(first)
        if found is not None or first is None or first.caller.interactive:
            return found
        if first not in self._waiting or self._waiting[first].alone:  # it waits until nobody is there
            return None
        return self._placed(self._line.first(interactive=True))

    def _placed(self, ticket: Ticket | None) -> tuple[Ticket, Explainer] | None:
        """The ticket and the explainer that has a place for it; None where there is none."""
        if ticket is None or ticket not in self._waiting:
            return None
        waiting = self._waiting[ticket]
        if waiting.turn.done():
            return None  # its asker has been told to leave, and hasn't run since: it calls the next
        explainer = self._choose(waiting)
        return None if explainer is None else (ticket, explainer)

    def _choose(self, waiting: _Waiting) -> Explainer | None:
        """One that does nothing, else one that has this model's jobs already, else the one with the fewest."""
        if waiting.alone:
            return next((explainer for explainer in self._alive() if not explainer.taken), None)
        model = (waiting.message.model, waiting.message.version)
        most = JOBS if waiting.message.caller.interactive else PATIENT
        free = [e for e in self._alive() if e.taken < JOBS and (most == JOBS or e.patient < most) and not e.alone]
        return min(free, key=lambda e: (e.taken > 0, -(e.models[model] > 0), e.taken), default=None)

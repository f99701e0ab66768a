"""Who goes next: explanations that wait and run, bounded by count, by work and by each key's share. No clock or loop of its own."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from service.caller import Caller
from service.errors import Overloaded, ShareUsedUp

AGEING = 30.0
"""Seconds that an asynchronous explanation lets interactive ones go before it: it goes as if it had come so much later. It enters only
where no more work waits before it, and half of the places are left to interactive ones: however many there are, they wait outside."""
MEMORY = 30.0
"""Seconds over which the drain rate is taken: older work counts exponentially less."""
PRIOR = 1.0
"""Seconds of work at one a second and process, as if they had been seen: the drain rate before there is any."""


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """A place in the line. `work`: estimated seconds of one process; times by the line's clock."""

    caller: Caller
    work: float
    entered: float
    due: float
    """Where it stands: tickets go by this."""
    number: int

    def __lt__(self, other: Ticket) -> bool:
        return (self.due, self.number) < (other.due, other.number)


class Drain:
    """Estimated seconds of work done a second in which there was any, over the last `MEMORY` seconds; at first one a server."""

    def __init__(self, servers: int, now: float) -> None:
        self._servers = servers
        self._work = self._busy = 0.0
        self._at = now

    def advance(self, now: float, *, busy: bool) -> None:
        """Time has passed since the last call, in which work was or wasn't done."""
        kept = math.exp(-(now - self._at) / MEMORY)
        self._work *= kept
        self._busy = self._busy * kept + (MEMORY * (1 - kept) if busy else 0.0)
        self._at = now

    def done(self, work: float) -> None:
        self._work += work

    @property
    def rate(self) -> float:
        return (self._work + PRIOR * self._servers) / (self._busy + PRIOR)


class Line:
    """At most `count` tickets, waiting or running, of which a key holds at most `share`.

    A ticket is given where what stands before it leaves it a chance within its own time; one key's work may take at most `share`
    of that time. A key that holds nothing, and an empty line, always take one more. Interactive ones go first, FIFO within,
    and find at least half of the places free of asynchronous ones.
    """

    def __init__(self, count: int, share: float, servers: int, clock: Callable[[], float]) -> None:
        self._count = count
        self._share = share
        self._clock = clock
        self._drain = Drain(servers, clock())
        self._waiting: list[Ticket] = []
        self._running: dict[Ticket, float] = {}
        """By ticket when it started."""
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running)

    @property
    def work(self) -> float:
        """Estimated seconds of work that wait or run."""
        return sum(ticket.work for ticket in self._all())

    def waiting(self, *, interactive: bool) -> int:
        return sum(ticket.caller.interactive == interactive for ticket in self._waiting)

    def enter(self, caller: Caller, work: float, deadline: float) -> Ticket:
        """A ticket for `work` seconds to be done by `deadline`. Raises Overloaded and ShareUsedUp, which say when to come back."""
        now = self._now()
        left = max(deadline - now, 0.0)  # whose time is over is told so by who waits for its turn
        ticket = Ticket(caller, work, now, now + (0.0 if caller.interactive else AGEING), next(self._numbers))
        self._require_share(ticket, left)
        self._require_room(ticket, left)
        heapq.heappush(self._waiting, ticket)
        return ticket

    def first(self, *, interactive: bool = False) -> Ticket | None:
        """Who goes next, of all or of the interactive ones; None where nobody waits."""
        if interactive:
            return min((ticket for ticket in self._waiting if ticket.caller.interactive), default=None)
        return self._waiting[0] if self._waiting else None

    def start(self, ticket: Ticket) -> float:
        """The ticket's work begins; the seconds that it has waited."""
        now = self._now()
        self._forget(ticket)
        self._running[ticket] = now
        return now - ticket.entered

    def back(self, ticket: Ticket) -> None:
        """Its work was lost: it waits again, where it stood."""
        self._now()
        del self._running[ticket]
        heapq.heappush(self._waiting, ticket)

    def leave(self, ticket: Ticket, *, done: bool) -> None:
        """Gone, waiting or running; `done` where its work counts as drained."""
        self._now()
        if ticket in self._running:
            del self._running[ticket]
            if done:
                self._drain.done(ticket.work)
        else:
            self._forget(ticket)

    def _forget(self, ticket: Ticket) -> None:
        """It doesn't wait any more."""
        if self._waiting[0] is ticket:
            heapq.heappop(self._waiting)
        else:
            self._waiting.remove(ticket)
            heapq.heapify(self._waiting)

    def _require_share(self, ticket: Ticket, left: float) -> None:
        key = ticket.caller.key
        if not key:
            return
        for tickets, count in self._places(ticket):
            held = [other for other in tickets if other.caller.key == key]
            places = max(1, int(self._share * count))
            if held and len(held) >= places:
                why = f"{places} explanations of this key wait or run already (setting WHYSERVE_KEY_SHARE)"
                raise ShareUsedUp(why, _soon(self._seconds(held) / len(held)))
        seconds = self._seconds(other for other in self._before(ticket) if other.caller.key == key)
        if seconds > self._share * left:
            why = f"explanations of this key already take {seconds:.3g} s, its share of this one's time (setting WHYSERVE_KEY_SHARE)"
            raise ShareUsedUp(why, _soon(seconds - self._share * left))

    def _require_room(self, ticket: Ticket, left: float) -> None:
        for tickets, count in self._places(ticket):
            if len(tickets) >= count:
                why = f"{count} explanations wait or run already (setting WHYSERVE_EXPLAINER_QUEUE)"
                raise Overloaded(why, _soon(self._seconds(tickets) / len(tickets)), "queue_full")
        wait = self._seconds(self._before(ticket))
        if wait > left:
            why = f"explanations that take about {wait:.3g} s are before this one, which has {left:.3g} s (parameter 'timeout')"
            raise Overloaded(why, _soon(wait - left), "work_full")
        if not ticket.caller.interactive:
            ahead = self._seconds(other for other in self._before(ticket) if other not in self._running)
            if ahead > AGEING:
                why = f"explanations that take about {ahead:.3g} s wait before this asynchronous one, which enters when it is {AGEING:g} s"
                raise Overloaded(why, _soon(ahead - AGEING), "work_full")

    def _places(self, ticket: Ticket) -> Iterator[tuple[list[Ticket], int]]:
        """The tickets that take places from this one, and how many places there are: all; and, where nobody waits for it, half of
        them for its like."""
        everyone = list(self._all())
        yield everyone, self._count
        if not ticket.caller.interactive:
            yield [other for other in everyone if not other.caller.interactive], max(1, self._count // 2)

    def _before(self, ticket: Ticket) -> Iterator[Ticket]:
        """Whose work comes before this one's, which has just come: without its own request's, for where that asks for more than its time
        allows its deadline says so, and coming back later wouldn't help."""
        errand = ticket.caller.errand
        for other in self._all():
            if (other.due <= ticket.due or other in self._running) and not (errand and other.caller.errand == errand):
                yield other

    def _seconds(self, tickets: Iterable[Ticket]) -> float:
        """How long the work of these takes."""
        return sum(ticket.work for ticket in tickets) / self._drain.rate

    def _all(self) -> Iterator[Ticket]:
        return itertools.chain(self._running, self._waiting)

    def _now(self) -> float:
        now = self._clock()
        self._drain.advance(now, busy=bool(self._running))
        return now


def _soon(seconds: float) -> int:
    """As Retry-After has it: whole seconds, 1 to 600."""
    return max(1, min(600, math.ceil(seconds)))

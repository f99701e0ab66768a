"""Explanations that several ask for at the same time are computed once, and known ones not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from service.errors import Unavailable, WhyserveError
from service.explain.answer import Explanation
from service.explanations.cache import Cache
from service.explanations.key import Key
from service.telemetry import Metrics

Compute = Callable[[list[int]], Coroutine[Any, Any, list[Explanation]]]
"""Computes the explanations of the rows at these places."""
Found = dict[Key, Explanation]
_SHARE_USED_UP = 429


@dataclass(slots=True, eq=False)
class _Flight:
    """A computation under way, and how many wait for it."""

    keys: frozenset[Key]
    patience: Hashable
    task: asyncio.Task[Found]
    askers: int = 0


class Shared:
    """What is known, and what is being computed.

    A computation is joined by whoever wants all that it computes, with the same patience (the seconds asked for, and whether
    somebody waits at the other end): so nobody waits for what others want, nobody's explanation is cut short by another's
    shorter time, and an error is everybody's own. It is cancelled when the last of its askers has gone.
    """

    def __init__(self, cache: Cache, metrics: Metrics) -> None:
        self._cache = cache
        self._metrics = metrics
        self._flights: dict[tuple[Key, Hashable], _Flight] = {}

    async def explain(self, keys: Sequence[Key], patience: Hashable, compute: Compute) -> list[Explanation]:
        """One explanation a key, its field `cached` saying whether it was known. Raises what `compute` raises, Unavailable."""
        places: dict[Key, int] = {}
        for place, key in enumerate(keys):
            places.setdefault(key, place)  # of several alike, the first
        known = {key: one for key in places if (one := self._cache.get(key)) is not None}
        missing = [key for key in places if key not in known]
        found = {key: _marked(one, cached=True) for key, one in known.items()}
        if missing:
            flights = self._joinable(missing, patience)
            try:
                computed = await self._landed(flights | self._own(flights, missing, patience, places, compute))
            except WhyserveError as error:
                if not flights or error.status != _SHARE_USED_UP:
                    raise
                computed = await self._landed(self._own(set(), missing, patience, places, compute))  # the share was another's
            found |= {key: _marked(computed[key], cached=False) for key in missing}
        return [found[key] for key in keys]

    def _joinable(self, missing: list[Key], patience: Hashable) -> set[_Flight]:
        wanted = set(missing)
        return {f for key in missing if (f := self._flights.get((key, patience))) is not None and f.keys <= wanted}

    def _own(self, joined: set[_Flight], missing: list[Key], patience: Hashable, places: dict[Key, int], compute: Compute) -> set[_Flight]:
        """What is left to compute beside those that are joined; nothing where they compute all."""
        theirs = {key for flight in joined for key in flight.keys}
        self._metrics.cache_joined.inc(len(theirs))
        left = [key for key in missing if key not in theirs]
        if not left:
            return set()
        return {self._start(left, patience, compute([places[key] for key in left]))}

    def _start(self, keys: list[Key], patience: Hashable, computing: Coroutine[Any, Any, list[Explanation]]) -> _Flight:
        async def fly() -> Found:
            found = dict(zip(keys, await computing, strict=True))
            self._metrics.cache_misses.inc(len(found))  # now, for what was refused was not computed
            for key, explanation in found.items():
                self._cache.put(key, explanation)
            return found

        flight = _Flight(frozenset(keys), patience, asyncio.create_task(fly()))
        for key in keys:
            self._flights[key, patience] = flight
        flight.task.add_done_callback(lambda _: self._forget(flight))
        return flight

    def _forget(self, flight: _Flight) -> None:
        """Nobody joins it any more."""
        for key in flight.keys:
            if self._flights.get((key, flight.patience)) is flight:
                del self._flights[key, flight.patience]
        if flight.task.done() and not flight.task.cancelled():
            flight.task.exception()  # looked at, else asyncio would log one that nobody waited for

    async def _landed(self, flights: set[_Flight]) -> Found:
        found: Found = {}
        for flight in flights:
            flight.askers += 1
        try:
            # Not `gather`, which would cancel what others wait for too.
            done, _ = await asyncio.wait([flight.task for flight in flights], return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                if task.cancelled():
                    raise Unavailable("the server is stopping")
                found |= task.result()
        finally:
            for flight in flights:
                flight.askers -= 1
                if not flight.askers and not flight.task.done():
                    flight.task.cancel()
                    self._forget(flight)
        return found


def _marked(explanation: Explanation, *, cached: bool) -> Explanation:
    return replace(explanation, fields={**explanation.fields, "cached": cached})

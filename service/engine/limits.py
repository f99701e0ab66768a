"""How many rows a run of a model takes at most: what its manifest says or what was measured, and no more than its time bound allows."""

from __future__ import annotations

from collections.abc import Mapping

UNMEASURED = 32
"""Rows, where neither the manifest nor a measurement says how many."""
_BESIDE = 0.0005
"""Seconds that a run costs the server beside the model, about: the hop to a thread and back, in caches that the model has filled."""
_AS_CHEAP = 1.03
"""A row that costs at most this many times the cheapest row's share counts as cheap: the smaller batch is answered earlier."""


def largest_batch(declared: int | None, taken: Mapping[int, float], bound: float) -> int:
    """The largest batch, in rows, at least 1.

    `declared` is the manifest's maximum; `taken` are the measured seconds of a run by its number of rows; `bound` are the seconds
    that a run may take. Without a declared maximum it is the smallest measured batch whose rows are as cheap as any. Nothing
    measured: nothing is known of the time, and the declared maximum stands.
    """
    if not taken:
        return declared or UNMEASURED
    most = declared or _cheapest({rows: (seconds + _BESIDE) / rows for rows, seconds in taken.items()})
    within = max((rows for rows, seconds in taken.items() if seconds <= bound), default=0)
    if within == 0:
        return min(most, 1)
    if within < max(taken):
        return min(most, within)
    return min(most, max(within, int(bound / (taken[within] / within))))  # beyond what was measured a row costs what it cost last


def _cheapest(shares: Mapping[int, float]) -> int:
    least = min(shares.values())
    return min(rows for rows, share in shares.items() if share <= least * _AS_CHEAP)

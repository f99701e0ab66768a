"""How many rows of gradients a pass takes at its fastest, measured on this machine when a model is loaded.

A pass of few rows pays for every operator's call anew, one of many pushes what the backward pass reads out of the caches: a
ResNet-18's row costs least in passes of some eight, a small network's in much longer ones.
"""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time

SIZES = (1, 2, 4, 8, 16, 32)
WITHIN = 1.05
"""The smallest size that takes at most this many times the least time a row is taken: it holds less memory."""
TURNS = 3
"""The first one of a size also prepares it; the least of the others counts, since what disturbs one only adds."""
SLOWER = 2
"""So many sizes in a row without a gain end the search."""


def fastest(run: Callable[[int], None], most: int) -> int:
    """The size among SIZES, at most `most`, at which `run(size)` takes the least time a row."""
    seconds: dict[int, float] = {}
    for size in (size for size in SIZES if size <= max(1, most)):
        seconds[size] = min(_timed(run, size) for _ in range(TURNS)) / size
        if len(seconds) > SLOWER and min(list(seconds.values())[-SLOWER:]) > min(seconds.values()):
            break
    return next(size for size, each in seconds.items() if each <= WITHIN * min(seconds.values()))


def _timed(run: Callable[[int], None], size: int) -> float:
    """By the thread's own time: on the wall's clock a turn also takes what the thread waits for a processor, which in the idle class
    may be most of it."""
    started = thread_time()
    run(size)
    return thread_time() - started

"""Timing of work in this process: on one core, one thread, in turns."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Generic, TypeVar

import numpy as np
import torch

Result = TypeVar("Result")


@contextmanager
def one_core() -> Iterator[None]:
    """This process on one core, torch on one thread."""
    allowed, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {min(allowed)})
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
        torch.set_num_threads(threads)


@dataclass(frozen=True, slots=True)
class Timed(Generic[Result]):
    """The least seconds of a work's rounds, and what it gave in the last."""

    seconds: float
    result: Result


def in_turns(works: Sequence[Callable[[], Result]], rounds: int) -> list[Timed[Result]]:
    """Each work, all of them once a round: what else the machine does only adds, and meets all alike. In another order each round:
    what a work finds in the processor's caches is what the one before it left, and its own kind leaves more that is of use."""
    least: dict[int, Timed[Result]] = {}
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        for i in rng.permutation(len(works)).tolist():
            started = perf_counter()
            result = works[i]()
            seconds = perf_counter() - started
            least[i] = Timed(min(seconds, least[i].seconds) if i in least else seconds, result)
    return [least[i] for i in range(len(works))]


def quartiles(values: Sequence[float]) -> str:
    """The median with its quartiles."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:.2f} ({low:.2f} .. {high:.2f})"

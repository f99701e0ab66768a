"""Rows of a request to blocks of one shape, what was found for each back to the request's order, several at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from service.generation import Rows

Array = np.ndarray[Any, Any]
Result = TypeVar("Result")


class Block(NamedTuple):
    """Rows of one shape, stacked: `feeds` (n, ...) by input, `places` where they stood in the request."""

    feeds: dict[str, Array]
    places: list[int]


def alone(row: dict[str, Array]) -> Block:
    return Block({name: tensor[None] for name, tensor in row.items()}, [0])  # views, no copy


def blocks_of(rows: Rows, most: int) -> Iterator[Block]:
    groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(tuple(tensor.shape for tensor in row.values()), []).append(place)
    for places in groups.values():
        for start in range(0, len(places), most):
            chosen = places[start : start + most]
            yield Block({name: np.stack([rows[place][name] for place in chosen]) for name in rows[0]}, chosen)


def in_order(blocks: Sequence[Block], answers: Sequence[Sequence[Result]]) -> list[Result]:
    """What was found for the rows of each block, in the request's order."""
    found = {place: one for block, theirs in zip(blocks, answers, strict=True) for place, one in zip(block.places, theirs, strict=True)}
    return [found[place] for place in range(len(found))]


async def all_of(works: Sequence[Callable[[], Awaitable[Result]]], at_once: int) -> list[Result]:
    """Their results, so many of them under way at once; where one fails, or nobody waits any more, the others are cancelled."""
    gate = asyncio.Semaphore(at_once)

    async def one(work: Callable[[], Awaitable[Result]]) -> Result:
        async with gate:
            return await work()

    tasks = [asyncio.create_task(one(work)) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()

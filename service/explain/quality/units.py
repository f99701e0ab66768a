"""What is removed from an instance at a time: pixels, tokens, columns, stretches of sound; and which of them lie together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from service.manifest import Input

Array = NDArray[Any]
MOST = 4096
"""Units of an input: larger pictures are taken apart in tiles, longer sequences in stretches, so that the masks of a few hundred
removals stay within some megabytes."""
SOUND_UNITS = 100
"""A second: 10 ms is about the shortest that can be heard apart."""

Together = Literal["plane", "line", "set"]


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """The units of one input. `labels` has the input's own shape (without batch axis), int64: the unit of each element, row-major
    in `grid`."""

    labels: Array
    grid: tuple[int, ...]
    together: Together
    """Whether neighbours in the grid belong together: on a plane, on a line, or not at all."""
    noun: str

    @property
    def count(self) -> int:
        return math.prod(self.grid)


def units_of(entry: Input, shape: tuple[int, ...]) -> Units:
    """The units of an instance (without batch axis) of this input. A pixel's channels go together."""
    if entry.image and len(shape) == 3:
        channels_last = entry.image.layout == "NHWC"
        plane, grid, side = _tiles(*(shape[:2] if channels_last else shape[1:]))
        labels = np.broadcast_to(plane[:, :, None] if channels_last else plane, shape)
        return Units(labels, grid, "plane", "pixels" if side == 1 else f"tiles of {side} x {side} pixels")
    size = math.prod(shape)
    if entry.audio:
        return _stretches(shape, max(entry.audio.sample_rate // SOUND_UNITS, -(-size // MOST)), "line", "stretches of sound")
    noun = "tokens" if entry.text else "columns" if entry.table else "values"
    return _stretches(shape, max(1, -(-size // MOST)), "line" if entry.text else "set", noun)


def _tiles(height: int, width: int) -> tuple[Array, tuple[int, int], int]:
    """Labels (H, W), the grid of tiles, the tiles' side in pixels."""
    side = max(1, math.ceil(math.sqrt(height * width / MOST)))
    rows, columns = -(-height // side), -(-width // side)
    labels = (np.arange(height) // side)[:, None] * columns + (np.arange(width) // side)[None]
    return labels, (rows, columns), side


def _stretches(shape: tuple[int, ...], length: int, together: Together, noun: str) -> Units:
    size = math.prod(shape)
    return Units((np.arange(size) // length).reshape(shape), (-(-size // length),), together, noun)


def window(units: Units, centre: int, rng: np.random.Generator) -> Array:
    """A random part (units,), bool, of what belongs together around the unit `centre`: a square of 10 to 50 % of the picture's
    side, a span of up to half of a sequence, or (of a set) any other units with it, up to half of them."""
    if units.together == "set":
        chosen = rng.random(units.count) < rng.uniform(0, 0.5)
        chosen[centre] = True
        return chosen
    place = np.unravel_index(centre, units.grid)
    longest = max(units.grid)
    least = longest / 10 if units.together == "plane" else 1
    length = max(1, round(rng.uniform(least, max(least, longest / 2))))
    inside = np.ones(units.grid, bool)
    for axis, (at, size) in enumerate(zip(place, units.grid, strict=True)):
        start = int(at) - int(rng.integers(length))  # the centre anywhere in it
        along = np.arange(size)
        shape = [1] * len(units.grid)
        shape[axis] = size
        inside &= ((along >= start) & (along < start + length)).reshape(shape)
    return inside.reshape(-1)

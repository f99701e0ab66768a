"""Blocks of neighbouring elements: the features of tensors too large for one feature an element, and a picture's squares."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def blocks(shape: tuple[int, ...], most: int) -> Array:
    """Numbers (shape) of the smallest cubes, all of one edge, that are at most `most`; each axis is cut evenly."""
    edge = 1
    while math.prod(-(-size // edge) for size in shape) > most:
        edge += 1
    numbers = np.zeros(shape, np.int64)
    for axis, size in enumerate(shape):
        parts = -(-size // edge)
        along = np.arange(size) * parts // size
        numbers = numbers * parts + along.reshape(-1, *(1,) * (len(shape) - axis - 1))
    return numbers


def elements(shape: tuple[int, ...]) -> Array:
    """A number each."""
    return np.arange(math.prod(shape)).reshape(shape)

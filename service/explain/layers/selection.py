"""Which channels of a layer an answer holds, and how much of it may be sent. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import BadParameter, TooLarge

Array = NDArray[Any]
MOST_VALUES = 1_000_000
"""Numbers of one answer; as JSON text that is about 10 MB."""


def chosen(array: Array, channels: Sequence[int] | None, axis: int, what: str) -> Array:
    """The channels of a row's tensor, all without a choice. Raises BadParameter for one that isn't there."""
    if channels is None:
        return array
    count = array.shape[axis] if array.ndim else 0
    for channel in channels:
        if channel >= count:
            raise BadParameter(f"parameter 'channels': {channel} is out of range, {what} has {count} (0 to {count - 1})")
    return np.take(array, list(channels), axis)


def require_small(values: int, what: str) -> None:
    """Raises TooLarge, which says what to do."""
    if values > MOST_VALUES:
        raise TooLarge(
            f"{what}: {values} numbers, at most {MOST_VALUES} in an answer; choose some with the parameter 'channels' (0,3,8-11), "
            "or send fewer instances"
        )

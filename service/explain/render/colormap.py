"""The one colour scale of every rendering: blue against, white neutral, orange for; safe for the usual colour blindnesses."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Colour = tuple[int, int, int]

_ANCHORS = np.array(
    [
        (16, 50, 108),
        (34, 108, 176),
        (104, 168, 216),
        (192, 217, 238),
        (247, 247, 247),
        (250, 205, 160),
        (236, 132, 52),
        (184, 70, 8),
        (100, 34, 2),
    ],
    dtype=float,
)
"""Evenly spaced from -1 to 1; lightness falls alike on both sides, so strength reads without hue."""
_POSITIONS = np.linspace(-1, 1, len(_ANCHORS))
_ROBUST_PERCENTILE = 99


def diverging(values: Array | float) -> Array:
    """RGB uint8 (.., 3) of values from -1 (against) over 0 (neutral) to 1 (for); beyond them the ends' colours."""
    values = np.asarray(values, float)
    return np.stack([np.interp(values, _POSITIONS, _ANCHORS[:, channel]) for channel in range(3)], axis=-1).round().astype(np.uint8)


def symmetric_scale(attributions: Array) -> float:
    """What is drawn at full strength: the 99th percentile of the magnitudes, so that one stray value doesn't pale the rest.

    The largest magnitude where nearly all are zero; 1 where all are. NaN counts as zero.
    """
    magnitudes = np.abs(np.nan_to_num(attributions))
    if magnitudes.size == 0 or not magnitudes.any():
        return 1.0
    return float(np.percentile(magnitudes, _ROBUST_PERCENTILE)) or float(magnitudes.max())


def strengths(attributions: Array, scale: float) -> Array:
    """Attributions as values from -1 to 1 of the colour scale."""
    return np.asarray(np.clip(np.nan_to_num(attributions) / scale, -1, 1))


def colour_of(value: float) -> Colour:
    """RGB of one value from -1 to 1."""
    red, green, blue = diverging(value).tolist()
    return red, green, blue


def ink_on(colour: Colour) -> Colour:
    """Black or white, whichever reads better on `colour` (ITU-R 601 luma)."""
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def hex_of(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)

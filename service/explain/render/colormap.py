"""The two colour scales of every rendering, safe for the usual colour blindnesses: blue against, white neutral, orange for;
and white to purple for magnitudes, which have no sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Colour = tuple[int, int, int]

_ROBUST_PERCENTILE = 99
_LONGEST_LABEL = 24


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """Evenly spaced RGB anchors from `lowest` to 1; lightness falls with strength, so that strength reads without hue."""

    anchors: Array
    lowest: float
    low: str
    high: str
    """What the two ends mean."""

    @property
    def signed(self) -> bool:
        return self.lowest < 0

    def colours(self, values: Array | float) -> Array:
        """RGB uint8 (.., 3) of values from `lowest` to 1; beyond them the ends' colours."""
        values, positions = np.asarray(values, float), np.linspace(self.lowest, 1, len(self.anchors))
        return np.stack([np.interp(values, positions, self.anchors[:, c]) for c in range(3)], axis=-1).round().astype(np.uint8)

    def colour_of(self, value: float) -> Colour:
        red, green, blue = self.colours(value).tolist()
        return red, green, blue

    def ends(self, target: str = "") -> tuple[str, str]:
        """The two ends in words; for and against are for and against `target`, where it has a name."""
        if not target or not self.signed:
            return self.low, self.high
        name = target if len(target) <= _LONGEST_LABEL else target[: _LONGEST_LABEL - 1] + "…"
        return f"{self.low} {name}", f"{self.high} {name}"


SIGNED = Scale(
    np.array(
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
    ),
    -1.0,
    "against",
    "for",
)
"""Zero is neutral, both sides alike in lightness."""
UNSIGNED = Scale(
    np.array([(247, 247, 247), (218, 204, 232), (166, 132, 198), (114, 62, 152), (62, 14, 96)], dtype=float), 0.0, "no influence", "strong"
)
"""Of magnitudes: a hue of its own, so that nobody reads a sign into it."""


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


def ink_on(colour: Colour) -> Colour:
    """Black or white, whichever reads better on `colour` (ITU-R 601 luma)."""
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def hex_of(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)

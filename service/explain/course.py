"""How a model's gradients turn on the way from the baseline to its typical instances: where the nodes of a path belong, and how
many it takes.

Measured when a model is loaded, with its bundle's reference set. Networks are alike in it from input to input: ReLU networks
turn near the baseline, where most units start, saturated ones near where they saturate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from service.explain.attribution.integrate import Array, Places, Rule, cuts_by_density, variances

CELLS = 16
INSTANCES = 4
"""Of the reference set."""
FEWEST, MOST = 6, 48
"""Pieces at first."""
LIKELY = 0.75
"""The part of the typical instances for which the first pieces suffice."""


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    described: object
    """The baseline it was measured from, as an answer's `parameters` names it."""
    rates: Array
    """(R, CELLS): how fast the vector (gradient times way) varies in each cell of the path: squared L2 distance for a unit of it,
    relative to the vectors' mean; R typical instances."""

    @classmethod
    def of(cls, described: object, vectors: list[np.ndarray[tuple[int, int], np.dtype[np.float32]]]) -> Course:
        """From vectors (CELLS, M) in the middle of each cell, one block an instance."""
        cuts = np.linspace(0.0, 1.0, CELLS + 1)
        rates = [variances(Rule(cuts, v), v) * 12 * CELLS**3 / _length(v) for v in vectors]
        return cls(described, np.asarray(rates))

    def cuts(self, spread: float, most: int) -> Places:
        """Pieces that reach this relative distance from the integral for most instances: each cell has as many as make its error
        least (the error of pieces of width h is h² times the rate, so their density is the rate's cubic root)."""
        density = np.cbrt(self.rates.mean(0))  # (CELLS,)
        if not 0 < density.sum() < np.inf:
            return cuts_by_density(density, min(FEWEST, most))
        share = density / density.sum() * CELLS  # pieces for a unit of the path, of one piece in all
        squares = (self.rates / np.maximum(share, 1e-3) ** 2 / 12).mean(1)  # (R,): squared distance, with one piece in all
        needed = math.ceil(math.sqrt(float(np.quantile(squares, LIKELY))) / spread)
        return cuts_by_density(density, min(max(FEWEST, min(MOST, needed)), most))


def _length(vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> float:
    """The squared L2 length of their mean."""
    mean = vectors.mean(0, dtype=np.float64)
    return max(float(mean @ mean), float(np.finfo(np.float32).tiny))

"""How a model's gradients turn on the way from the baseline to its typical instances: where the nodes of a path belong, and how
many it takes.

Measured when a model is loaded, with its bundle's reference set. Networks are alike in it from input to input: ReLU networks
turn near the baseline, where most units start, saturated ones near where they saturate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from service.explain.attribution.integrate import Array, Places, Rule, cuts_by_density, variances

CELLS = 32
INSTANCES, OF_LARGE = 8, 2
"""Of the reference set: of most models, and of one whose row keeps more than LARGE bytes for the pass backward."""
LARGE = 4 * 2**20
OPERATOR = 25_000
"""Bytes that keeping takes as long as calling one operator, forward and backward. Not measured where it runs: how many pieces an
explanation has would then depend on the machine."""
FEWEST, MOST = 6, 96
"""Pieces at first."""
STEEP = 12
"""How surely an instance takes as many pieces as a typical one: twice as many as it takes fail it one time in 2^12."""
REFINING = 4
"""Rows that instances take beside another pass where the first pieces don't suffice, at least."""
WASTE = 2.0
"""Rows by cutting pieces for a row that was missing at first."""
MOST_CALLS = 32.0
REMEMBERED = 64
"""Goals whose pieces are kept: an explanation of a small network takes not much longer than finding them."""


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    described: object
    """The baseline it was measured from, as an answer's `parameters` names it."""
    density: Array
    """(CELLS,): how many of the pieces each cell of the path should have, relative."""
    distances: Array
    """(R,): from the integral, relative (L2), of R typical instances with one piece in all; falls as the number of pieces grows."""
    call: float = 0.0
    """What a pass costs whatever its rows, in rows."""
    _known: dict[tuple[float, int], Places] = field(default_factory=dict, init=False, repr=False)
    """What `cuts` gave, by what it was asked."""

    @classmethod
    def of(cls, described: object, turns: Sequence[Array], call: float = 0.0) -> Course:
        """From the turns (CELLS,) of R typical instances."""
        rates = np.asarray(turns)  # (R, CELLS)
        # The error of pieces of width h is h² times the rate, so it is least where their density is the rate's cubic root.
        density = np.cbrt(rates.mean(0))
        if not 0 < density.sum() < np.inf:
            return cls(described, np.ones(CELLS), np.zeros(len(rates)), call)
        share = density / density.sum() * CELLS  # pieces for a unit of the path, of one piece in all
        return cls(described, density, np.sqrt((rates / np.maximum(share, 1e-3) ** 2 / 12).mean(1)), call)

    def cuts(self, spread: float, most: int) -> Places:
        """Pieces that reach this relative distance from the integral at the least cost to be expected; to be read only."""
        asked = (spread, most)
        if asked not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            cuts = cuts_by_density(self.density, min(_cheapest(self.distances / spread, self.call), most))
            cuts.flags.writeable = False  # every explanation with this goal gets the same array
            self._known[asked] = cuts
        return self._known[asked]


def turns(vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> Array:
    """(CELLS,): how fast an instance's vector varies in each cell, squared L2 distance for a unit of the path, relative to the
    vectors' mean. `vectors` (CELLS, M): gradient times way in the middle of each."""
    cuts = np.linspace(0.0, 1.0, CELLS + 1)
    return variances(Rule(cuts, vectors), vectors) * 12 * CELLS**3 / _length(vectors)


def _cheapest(needed: Array, call: float) -> int:
    """The number of first pieces that costs least where instances take as many as the typical ones do, `needed` (R,), or nearly:
    too few cost another pass, and its rows."""
    counts = np.arange(FEWEST, MOST + 1)
    failing = 1 / (1 + (counts[:, None] / np.maximum(needed, 1e-3)) ** STEEP)  # (counts, R): log-logistic
    more = np.maximum(REFINING, WASTE * (needed - counts[:, None]))
    return int(counts[np.argmin(counts + (failing * (call + more)).mean(1))])


def calls_in_rows(operators: int, bytes_a_row: int) -> float:
    """What a pass through so many operators costs whatever its rows, in rows that keep so many bytes each."""
    return min(operators * OPERATOR / max(bytes_a_row, 1), MOST_CALLS)


def _length(vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> float:
    """The squared L2 length of their mean."""
    mean = vectors.mean(0, dtype=np.float64)
    return max(float(mean @ mean), float(np.finfo(np.float32).tiny))

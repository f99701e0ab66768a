"""Deletion and insertion (Petsiuk, Das, Saenko 2018, https://arxiv.org/abs/1806.07421), against random orders as the floor.

Units are removed by decreasing attribution: where the order says what the model goes by, its output falls at once, and the area
under it is small. Put back on the bare baseline in the same order it rises at once, and the area is large. How much an order
that knows nothing achieves differs from instance to instance, so random orders are run as well, each together with its reverse:
putting back in one order passes the very points at which removing in the reverse one passes, so that both areas of every random
order are known, and how far an explanation lies beyond their scatter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from service.explain.case import scale
from service.explain.quality.ground import Ground

Array = NDArray[Any]
STEPS = 16
"""Points of a curve after its start: some 6 % of the units at a time."""
PAIRS = 12
"""Random orders, each with its reverse: enough that the scatter of their areas is known to a fifth."""
MOVES = 0.05
"""A probability that spans less than this, whatever is removed, is saturated: its curves say nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Values are the target's probability or, where there is none, F beyond the baseline's as a part of |F(x) - F(b)|."""

    area: float
    random_area: float
    """Mean over the random orders."""
    random_deviation: float
    """Standard deviation of a random order's area."""
    random_standard_error: float
    """Of `random_area`."""
    curve: tuple[float, ...]
    random_curve: tuple[float, ...]
    """Mean over the random orders."""
    fractions: tuple[float, ...]
    """Of the units removed or put back, 0 to 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    deletion: Curve
    insertion: Curve
    shows: Literal["probability", "output"]
    span: float
    """How much the curves' values move at all."""
    moved: float
    """How much F itself does."""
    chance: float
    """Standard deviation, over random orders, of insertion's area minus deletion's (whose mean is 0)."""
    rows: int

    @property
    def beyond_chance(self) -> float | None:
        """Insertion's area minus deletion's in standard deviations of random orders; None where these don't differ."""
        return (self.insertion.area - self.deletion.area) / self.chance if self.chance > 0 else None


def curves(ground: Ground, seed: int) -> Curves:
    """Both curves of a ground with at least one unit. Ties in the order are broken by lot. Raises TimeUp, Cancelled."""
    rng = np.random.default_rng(seed)
    count = ground.count
    scores = np.abs(ground.scores) if ground.case.request.unsigned else ground.scores
    order = np.lexsort((rng.random(count), -scores))
    removed = np.unique(np.round(np.linspace(0, count, min(count, STEPS) + 1)).astype(int))  # (S,)
    random = np.stack([rng.permutation(count) for _ in range(PAIRS)])  # (P, U)
    ranks = np.concatenate([np.argsort(order)[None], random, count - 1 - random])  # (1 + R, U)
    deleting = ranks[:, None] >= removed[1:-1, None]  # (1 + R, S - 2, U)
    inserting = ranks[:1, None] < (count - removed[::-1])[1:-1, None]  # (1, S - 2, U)
    ends = np.stack([np.ones(count, bool), np.zeros(count, bool)])
    inner = np.concatenate([deleting, inserting])  # (R + 2, S - 2, U)
    answers = ground.answers(np.concatenate([ends, inner.reshape(-1, count)]))  # (rows, 2)
    paths = answers[2:].reshape(2 * PAIRS + 2, -1, 2)
    deleted = _path(answers[0], paths[:-1], answers[1])  # (1 + R, S, 2)
    inserted = _path(answers[1], paths[-1:], answers[0])  # (1, S, 2)
    shows, column = _shown(np.concatenate([deleted, inserted]), ground.case.scalar.explained)
    if shows == "output":
        f_x, f_b = float(answers[0, 0]), float(answers[1, 0])
        deleted, inserted = ((values - f_b) / scale(f_x, f_b) for values in (deleted, inserted))
    by_deletion, by_insertion = deleted[..., column], inserted[..., column]
    fractions = removed / count
    areas = np.trapezoid(by_deletion[1:], fractions, axis=1).reshape(2, PAIRS)  # of orders, and of their reverses
    return Curves(
        _curve(by_deletion[0], by_deletion[1:], fractions),
        _curve(by_insertion[0], by_deletion[1:, ::-1], (1 - fractions)[::-1]),
        shows,
        span=float(max(np.ptp(by_deletion), np.ptp(by_insertion))),
        moved=float(np.ptp(answers[:, 0])),
        chance=float(((areas[1] - areas[0]) ** 2).mean() ** 0.5),
        rows=len(answers),
    )


def _path(start: Array, between: Array, end: Array) -> Array:
    """`between` (N, S - 2, 2) with its ends (2,): (N, S, 2)."""
    rows = len(between)
    return np.concatenate([np.broadcast_to(start, (rows, 1, 2)), between, np.broadcast_to(end, (rows, 1, 2))], 1)


def _shown(paths: Array, explained: str) -> tuple[Literal["probability", "output"], int]:
    """The probability where there is one that moves or it is what was explained, else F; and its place in the last axis of
    `paths`."""
    probabilities = paths[..., 1]
    if explained == "probability" or (np.isfinite(probabilities).all() and np.ptp(probabilities) >= MOVES):
        return "probability", 1
    return "output", 0


def _curve(values: Array, random: Array, fractions: Array) -> Curve:
    """Of one order (S,) and of random ones (R, S)."""
    areas = np.trapezoid(random, fractions, axis=1)
    deviation = float(areas.std(ddof=1))
    return Curve(
        area=float(np.trapezoid(values, fractions)),
        random_area=float(areas.mean()),
        random_deviation=deviation,
        random_standard_error=deviation / len(areas) ** 0.5,
        curve=tuple(values.tolist()),
        random_curve=tuple(random.mean(0).tolist()),
        fractions=tuple(fractions.tolist()),
    )

"""Integrated gradients to a tolerance, with as few rows of gradients as this input needs.

Integrated gradients (Sundararajan, Taly, Yan 2017, https://arxiv.org/abs/1703.01365) are the integral, over the path from
baseline to instance, of a vector: gradient times way. A rule cuts the path into pieces and takes the vector in the middle of
each. Three things save rows:

1. *Where the first pieces are.* Narrow where the vector turns: as the model's typical instances have shown (`course`) or,
   where nothing is known of them, where F moves. (Bhat and Raychowdhury 2023 place nodes by F's movement alone.)
2. *What is known of the integral beforehand.* The sum of its elements is F's rise, which the served model tells. That sum is a
   control variate: the weights of the nodes are changed as little as it takes for the vectors' sums to add up to it
   (calibration: Deville and Särndal 1992, https://doi.org/10.2307/2290268). It makes up for what the rule misses, never for
   wrong gradients: where the rule's own error can't account for the difference, the weights stay as they are.
3. *What the nodes tell about the error.* How far each vector lies off the line between its neighbours says how much the vector
   varies within a piece, so how far the sum is from the integral (`spread`). Pieces are cut in three, which keeps their
   node, only where that matters.

ReLU networks have kinks all along the path: every rule's error falls with the number of nodes and no faster, and a completeness
error that happens to be small says nothing. The estimated distance from the integral does: on the MNIST network it is 0.8 to 1.8
times the true one for nine digits of ten. Nodes so far apart that neighbours have little to do with each other tell how little that
is, too (`strangeness`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.explain.cancel import TimeUp
from service.explain.once import once

PROBES = 8
"""Cells of the path in which F's movement is measured where the model's course isn't known."""
EVENLY = 0.1
"""The part of the first nodes that is spread evenly, whatever else is known."""
PIECES = 12
"""At first, where the model's course isn't known."""
LIKELY = 3.0
"""Standard deviations of the rule's own error within which a difference counts as that error."""
MOST_CHANGE = 0.5
"""Of a weight by calibration, relative."""
CARRIED_OFF = 8 / 9
"""The part of a piece's error (or of its variance) that cutting it in three takes away."""
RELATED = 0.5
"""Exponent of the vectors' differences from which on neighbours tell what lies between them: found with true distances, which half
the exponent would exceed by a fifth."""
ROUNDING = 1e-6
"""Relative differences of float32 sums that mean nothing."""
SHORTEST = 2.0**-12
"""Of a piece: below this float32 has few digits left for the difference of its ends."""
_COLUMNS = 2**14
"""Elements of the vectors that are compared at a time, so that the comparison holds little memory."""

Array = NDArray[np.float64]
Places = NDArray[np.float64]
"""(S,) of the path, 0 the baseline and 1 the instance."""
Vectors = NDArray[np.float32]
"""(S, M): gradient times way at S nodes, the M elements of all inputs side by side."""
Along = Callable[[Places], Vectors]
Heights = Callable[[Places], Array]
"""F of the served model at these places of the path."""


@dataclass(frozen=True, slots=True)
class Goal:
    rise: float
    """F of the instance minus F of the baseline."""
    allowed: float
    """Of the difference between the attributions' sum and the rise."""
    spread: float
    """Estimated distance from the integral to reach, relative to it (L2)."""
    most: int
    """Nodes."""
    trusted: bool = True
    """Whether the vectors are F's true gradients as far as anybody knows; where they aren't, nothing is calibrated by them."""
    rounding: Callable[[], float] = lambda: 0.0
    """How far the vectors are off, relative to them (L2), as is known once the first are computed. Their sum is as far off, whether
    they all err alike or each for itself."""


class TooRough(Exception):
    """The vectors are off by more than half of what the goal allows: it would take too many nodes, or never be reached."""


@dataclass(frozen=True, slots=True, eq=False)
class Integral:
    attributions: NDArray[np.float32]
    """(M,)."""
    steps: int
    """Nodes, each a row of gradients."""
    spread: float
    """Estimated distance from the integral, relative to it (L2), with the vectors' rounding."""
    missed: float
    """Sum of the attributions minus the rise, before calibration."""
    reached: bool
    """The goal."""
    timed_out: bool = False


@dataclass(frozen=True, eq=False)
class Rule:
    """K pieces of the path, ascending, each with its vector."""

    cuts: Places
    """(K + 1,)."""
    vectors: Vectors
    """(K, M): in the middle of each."""

    @once
    def nodes(self) -> Places:
        return (self.cuts[1:] + self.cuts[:-1]) / 2

    @once
    def widths(self) -> Array:
        return self.cuts[1:] - self.cuts[:-1]

    @once
    def gaps(self) -> Array:
        """(K - 1,): between nodes."""
        return self.nodes[1:] - self.nodes[:-1]


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """A rule's sum and its errors."""

    integral: Integral
    missing: Array
    """(K,): each piece's part in the variance of the estimated distance."""
    slopes: Array
    """(K,): sums of the vectors."""
    complete: bool
    excess: float
    """The estimated distance without the rounding, relative to what the goal leaves for it."""


def integrate(along: Along, heights: Heights, cuts: Places, goal: Goal) -> Integral:
    """Integrated gradients that reach the goal, starting with these pieces, or the best that its number of nodes and the time
    give. Raises TimeUp where time ends before there is any answer, and TooRough.
    """
    rule = Rule(cuts, along((cuts[1:] + cuts[:-1]) / 2))
    while True:
        judged = _judged(rule, goal)
        room = (goal.most - len(rule.vectors)) // 2
        if judged.integral.reached or room <= 0 or not np.isfinite(judged.integral.missed):
            return judged.integral
        try:
            chosen = _to_cut(rule, judged, heights, goal)[:room]
            if not len(chosen):
                return judged.integral
            rule = _cut_in_three(rule, np.sort(chosen), along)
        except TimeUp:
            found = judged.integral
            return Integral(found.attributions, found.steps, found.spread, found.missed, reached=False, timed_out=True)


def cuts_by_movement(heights: Heights, pieces: int) -> Places:
    """The ends (pieces + 1,) of pieces that are narrow where F moves along the path."""
    return cuts_by_density(np.sqrt(np.abs(np.diff(heights(np.linspace(0.0, 1.0, PROBES + 1))))), pieces)


def cuts_by_density(density: Array, pieces: int) -> Places:
    """The ends (pieces + 1,) of pieces of which each cell, of C of equal width, has its share of `density` (C,)."""
    total, cells = density.sum(), len(density)
    if not 0 < total < np.inf:
        return np.linspace(0.0, 1.0, pieces + 1)
    share = (1 - EVENLY) * density / total + EVENLY / cells
    passed = np.concatenate(([0.0], np.cumsum(share)))
    return np.interp(np.linspace(0.0, passed[-1], pieces + 1), passed, np.linspace(0.0, 1.0, cells + 1))


# ------------------------------------------------------------------------------------------------------------- errors


def _judged(rule: Rule, goal: Goal) -> _Judged:
    widths, slopes = rule.widths, rule.vectors.sum(1, dtype=np.float64)  # (K,), (K,)
    missed = float(widths @ slopes) - goal.rise
    if not np.isfinite(missed):
        unknown = Integral(_weighed(widths, rule.vectors), len(widths), float("inf"), missed, reached=False)
        return _Judged(unknown, np.full(len(widths), np.inf), slopes, complete=False, excess=float("inf"))
    missing = variances(rule, rule.vectors) * (strangeness(rule.vectors) if len(widths) > 2 else 1.0)
    likely = LIKELY * float(np.sqrt(variances(rule, slopes[:, None]).sum()))
    weights, complete = widths, abs(missed) <= goal.allowed
    if goal.trusted and abs(missed) <= max(likely, ROUNDING * float(widths @ abs(slopes))):
        change = _calibration(widths, slopes, missed)  # (K,)
        if abs(change).max() <= MOST_CHANGE:
            weights, complete = widths * (1 + change), True
    attributions = _weighed(weights, rule.vectors)
    length = float(np.linalg.norm(attributions))
    if not (rounding := goal.rounding()) <= goal.spread / 2:
        raise TooRough
    sampling = _relative(float(np.sqrt(missing.sum())), length)
    spread = math.hypot(sampling, rounding)  # one knows nothing of the other
    found = Integral(attributions, len(widths), spread, missed, complete and spread <= goal.spread)
    return _Judged(found, missing, slopes, complete, sampling / math.sqrt(goal.spread**2 - rounding**2))


def _weighed(weights: Array, vectors: Vectors) -> NDArray[np.float32]:
    """(M,): without the vectors in float64 all at once."""
    columns = range(0, vectors.shape[1], _COLUMNS)
    parts = [weights @ vectors[:, start : start + _COLUMNS].astype(np.float64) for start in columns]
    return np.concatenate(parts, dtype=np.float32) if parts else np.zeros(0, np.float32)


def variances(rule: Rule, vectors: NDArray[np.floating]) -> Array:
    """(K,): what each piece adds to the squared distance from the integral, to be expected from how far the vectors (K, ..) lie
    off the lines between their neighbours. Exact in the mean for vectors that turn at random places (a Brownian bridge has
    the variance d e / (d + e) at distances d and e from its ends, and its integral over a piece of width h around a node h³ / 12),
    on the safe side for smooth ones."""
    if len(vectors) < 3:
        return np.full(len(vectors), np.inf)
    before, after = rule.gaps[:-1], rule.gaps[1:]  # (K - 2,) each
    both = before + after
    left, right = ((w / both).astype(vectors.dtype)[:, None] for w in (after, before))  # (K - 2, 1) each
    off = np.zeros(len(vectors))  # squared distances
    for start in range(0, vectors.shape[1], _COLUMNS):
        part = vectors[:, start : start + _COLUMNS]  # (K, at most _COLUMNS)
        inner = part[1:-1] - (left * part[:-2] + right * part[2:])
        off[1:-1] += np.einsum("km,km->k", inner, inner)
        first, last = part[0] - part[1], part[-1] - part[-2]
        off[0] += first @ first
        off[-1] += last @ last
    rates = off / np.concatenate((before[:1], before * after / both, after[-1:]))
    return np.asarray(rates * rule.widths**3 / 12)


def strangeness(vectors: NDArray[np.floating]) -> float:
    """How many times larger `variances` should be, 1 to 4, for vectors (K, ..), K at least 3, at nodes that are far apart.

    Squared differences of vectors at a distance h grow as h^p. With p = 1 they turn at random places, as `variances` supposes; with
    p = 0 they have turned so often between two nodes already that the next but one is no farther off than the next. Then what lies
    off the line between neighbours tells less: the squared error of a piece's middle is h^p (2^-p - 1 / (p + 2)) / (p + 1), the
    squared distance from that line h^p (1 - 2^p / 4), in units of the difference at distance 1.
    """
    steps = _squares(vectors[1:], vectors[:-1])
    beside = (steps[1:] + steps[:-1]).sum() / 2
    across = _squares(vectors[2:], vectors[:-2]).sum()
    if not 0 < beside < across < np.inf:
        return 4.0
    p = min(1.0, float(np.log2(across / beside)) / RELATED)
    return 6 * (2**-p - 1 / (p + 2)) / (p + 1) / (1 - 2**p / 4)


def _squares(a: NDArray[np.floating], b: NDArray[np.floating]) -> Array:
    """(K,): squared distances of the rows of a and b (K, M)."""
    found = np.zeros(len(a))
    for start in range(0, a.shape[1], _COLUMNS):
        off = a[:, start : start + _COLUMNS] - b[:, start : start + _COLUMNS]
        found += np.einsum("km,km->k", off, off)
    return found


def _calibration(widths: Array, slopes: Array, missed: float) -> Array:
    """(K,): the smallest relative changes of the weights, weighed by them, that leave their sum and take `missed` away; infinite
    where the slopes don't differ."""
    off = slopes - float(widths @ slopes)
    power = float(widths @ off**2)
    if missed == 0.0:
        return np.zeros(len(off))
    return -missed / power * off if power > 0 else np.full(len(off), np.inf)


def _relative(distance: float, length: float) -> float:
    return distance / length if length > 0 else 0.0 if distance == 0 else float("inf")


# --------------------------------------------------------------------------------------------------------- refinement


def _to_cut(rule: Rule, judged: _Judged, heights: Heights, goal: Goal) -> NDArray[np.intp]:
    """The pieces to cut, those that matter most first: so many that the goal is likely to be reached."""
    long = rule.widths > SHORTEST
    error = judged.excess
    by_spread: NDArray[np.intp] = np.zeros(0, np.intp)
    if error > 1:
        left = 1 - CARRIED_OFF * np.cumsum(np.sort(judged.missing)[::-1]) / judged.missing.sum()
        enough = int(np.argmax(left <= 1 / error**2)) + 1 if left[-1] <= 1 / error**2 else len(left)
        by_spread = np.argsort(-judged.missing, kind="stable")[:enough]
    by_rise: NDArray[np.intp] = np.zeros(0, np.intp)
    if not judged.complete:
        by_rise = _carriers(rule.widths * judged.slopes - np.diff(heights(rule.cuts)), goal.allowed)
    chosen = np.asarray(list(dict.fromkeys([*by_rise.tolist(), *by_spread.tolist()])), np.intp)
    return chosen[long[chosen]]


def _carriers(errors: Array, allowed: float) -> NDArray[np.intp]:
    """Largest errors first, those without which the sum of all (K,) would be within `allowed`; the largest where there are none."""
    ordered = np.argsort(-abs(errors), kind="stable")
    left, chosen = float(errors.sum()), []
    for index in ordered.tolist():
        less = left - CARRIED_OFF * float(errors[index])
        if abs(left) > allowed and abs(less) < abs(left):
            chosen.append(index)
            left = less
    return np.asarray(chosen or ordered[:1], np.intp)


def _cut_in_three(rule: Rule, chosen: NDArray[np.intp], along: Along) -> Rule:
    """The middle thirds have their parents' nodes, so each piece costs two rows."""
    thirds = rule.cuts[chosen, None] + rule.widths[chosen, None] * np.asarray([1 / 3, 2 / 3])  # (P, 2)
    outer = rule.nodes[chosen, None] + rule.widths[chosen, None] * np.asarray([-1 / 3, 1 / 3])  # (P, 2)
    vectors = along(outer.reshape(-1))  # (2 P, M)
    places = np.stack((chosen, chosen + 1), 1).reshape(-1)  # before and behind its parent
    return Rule(np.insert(rule.cuts, np.repeat(chosen + 1, 2), thirds.reshape(-1)), np.insert(rule.vectors, places, vectors, axis=0))

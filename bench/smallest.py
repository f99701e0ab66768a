"""The smallest number of Gauss-Legendre steps with which Captum's integrated gradients reach the tolerance on an instance.

Searched upwards, so that an error that happens to cancel counts too. Of a large network a number of steps is given up as soon as
what is known of the slopes along the path says that its sum can't reach the tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bench.contestants import TOLERANCE, Contestant

MOST_STEPS = 1000
_SURE = 5.0
"""Standard deviations beyond the tolerance at which a number of steps is given up."""
_ROWS = 8
"""Nodes that are looked at together, a pass."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Slopes:
    """How fast the target's logit rises (n,) at `places` (n,) of an instance's path, in their order."""

    places: Numbers
    values: Numbers

    def among(self, places: Numbers, values: Numbers) -> Slopes:
        """These and others."""
        together = np.concatenate([self.places, places])
        found, first = np.unique(together, return_index=True)
        return Slopes(found, np.concatenate([self.values, values])[first])

    def guess(self, places: Numbers) -> tuple[Numbers, Numbers]:
        """The slopes that are likely at `places`, and each guess's variance.

        A slope changes where one of the network's many units switches, by as much up as down: a random walk, of which between
        two known values a Brownian bridge is left. The known values' quadratic variation says how wild it is.
        """
        after = np.clip(np.searchsorted(self.places, places), 1, len(self.places) - 1)
        low, high = self.places[after - 1], self.places[after]
        within = (places - low) * (high - places) / (high - low)
        beyond = np.maximum(low - places, places - high)  # before the first or behind the last
        wild = float(np.sum(np.diff(self.values) ** 2) / (self.places[-1] - self.places[0]))
        return np.interp(places, self.places, self.values), wild * np.maximum(within, beyond)


def smallest_steps(one: Contestant, i: int, known: Slopes | None = None) -> tuple[int, bool]:
    """The number for instance i, by the folded twin (the same numbers as the module's to 1e-5, in half the time); from 64 on in steps
    of a tenth. False: not within MOST_STEPS. Without `known` slopes every number below is tried to its end."""
    steps = 1
    while steps <= MOST_STEPS:
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        reached, known = _reaches(one, i, (nodes + 1) / 2, weights / 2, known)
        if reached:
            return steps, True
        steps += max(1, steps // 10) if steps >= 64 else 1
    return MOST_STEPS, False


def _reaches(one: Contestant, i: int, nodes: Numbers, weights: Numbers, known: Slopes | None) -> tuple[bool, Slopes | None]:
    """Whether the sum over the nodes is within the tolerance; `known` with the slopes that had to be computed to say so."""
    if known is None:
        return one.completeness(i, float(slopes(one, i, nodes) @ weights)) <= TOLERANCE, None
    values, variances = known.guess(nodes)
    unlike = np.argsort(-(weights**2) * variances)  # what says most comes first
    for start in range(0, len(nodes), _ROWS):
        spread = _SURE * float(np.sqrt(variances @ weights**2))
        if one.completeness(i, float(values @ weights), spread) > TOLERANCE:
            return False, known.among(nodes[unlike[:start]], values[unlike[:start]])
        chosen = unlike[start : start + _ROWS]
        values[chosen], variances[chosen] = slopes(one, i, nodes[chosen]), 0.0
    return one.completeness(i, float(values @ weights)) <= TOLERANCE, known.among(nodes, values)


def slopes(one: Contestant, i: int, fractions: Numbers) -> Numbers:
    """(n,): how fast the target's logit rises at `fractions` of the path, a step's share of the sum of the attributions."""
    return np.concatenate([slopes_of(one, i, gradients) for gradients in one.gradients(i, fractions, _ROWS)])


def slopes_of(one: Contestant, i: int, gradients: torch.Tensor) -> Numbers:
    """The same of gradients (n, ..)."""
    return (gradients * one.point(i)).flatten(1).sum(1, dtype=torch.float64).numpy()  # type: ignore[no-any-return]

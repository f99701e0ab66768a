"""Infidelity (Yeh, Hsieh, Suggala, Inouye, Ravikumar 2019, https://arxiv.org/abs/1901.09392): whether what an explanation says
of a part is what removing the part does.

The paper's figure is E[(I.a - (F(x) - F(x - I)))^2] over perturbations I. Here I sets parts that lie together to the baseline,
and I.a is the sum of their shares. In F's own unit that can't be read, so it is given relative to E[(F(x) - F(x - I))^2]: 0 is
an explanation that foretells every change, 1 what an explanation of zeros gets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.explain.quality.ground import Ground

Array = NDArray[Any]
DRAWS = 64
NOTHING = 1e-6
"""Changes of F smaller than this part of it are float32's rounding."""


@dataclass(frozen=True, slots=True)
class Infidelity:
    raw: float
    """The paper's, in F's unit squared."""
    relative: float | None
    """Divided by the mean square of F's changes; None where F doesn't change."""
    standard_error: float | None
    """Of `relative`, from the scatter of the draws."""
    scaled: float | None
    """`relative` with the one factor `scale` for all attributions that makes it smallest: how far they are right but for their
    unit."""
    scale: float | None
    draws: int


def removals(ground: Ground, seed: int, draws: int = DRAWS) -> Array:
    """The parts that are removed, (draws, U) bool."""
    rng = np.random.default_rng(seed)
    return np.stack([ground.removal(rng) for _ in range(draws)])


def infidelity(ground: Ground, seed: int) -> Infidelity | None:
    """None where the attributions don't say what a removal should do. Raises TimeUp, Cancelled."""
    if ground.shares is None:
        return None
    removed = removals(ground, seed)
    answers = ground.answers(np.concatenate([np.ones((1, ground.count), bool), ~removed]))[:, 0]
    return compared(removed @ ground.shares, answers[0] - answers[1:], float(answers[0]))


def compared(foretold: Array, changes: Array, f_x: float) -> Infidelity:
    """Of what the explanation foretells for each draw (D,) and what F's change was (D,)."""
    errors = (foretold - changes) ** 2
    size = float((changes**2).mean())
    raw = float(errors.mean())
    if size <= (NOTHING * max(1.0, abs(f_x))) ** 2:
        return Infidelity(raw, None, None, None, None, len(errors))
    size_foretold, product = float((foretold**2).mean()), float((foretold * changes).mean())
    factor = product / size_foretold if size_foretold > 0 else 0.0
    # The error of a ratio of means, to first order: that of the mean of (numerator - ratio * denominator).
    ratio = raw / size
    standard_error = float((errors - ratio * changes**2).std(ddof=1)) / len(errors) ** 0.5 / size
    scaled = max(0.0, 1.0 - factor * product / size)
    return Infidelity(raw, ratio, standard_error, scaled, factor, len(errors))

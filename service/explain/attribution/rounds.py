"""Which samples gradient SHAP takes: with which reference each compares, and where between the two its gradient is taken."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GOLDEN = (5**0.5 - 1) / 2
FEWEST, MOST = 16, 64
"""Samples of a round."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A round: samples that are taken together."""

    references: NDArray[np.int64]
    """(n,): with whom each is compared."""
    places: NDArray[np.float64]
    """(n,): where between the two its gradient is taken, 0 the reference and 1 the instance."""

    def part(self, start: int, end: int) -> Drawn:
        return Drawn(self.references[start:end], self.places[start:end])


def as_captum(numbers: np.random.RandomState, references: int, n: int) -> Iterator[Drawn]:
    """One round of n samples, in the order in which Captum's GradientShap draws them."""
    yield Drawn(numbers.choice(references, n), numbers.uniform(0.0, 1.0, n))


def balanced(numbers: np.random.RandomState, references: int) -> Iterator[Drawn]:
    """Rounds without end, the same for the same seed however many are taken. Each takes every reference as often as the others,
    or, of more than MOST references, a part of them; its places are spread evenly over it and, from turn to turn, over the path of
    each reference (a rotation by the golden ratio): far fewer samples than independent draws need."""
    order = np.repeat(np.arange(references), max(1, FEWEST // references))
    if references > MOST:
        order = numbers.permutation(references)
    parts = [(part, _evenly(numbers, len(part))) for part in np.array_split(order, -(-len(order) // MOST))]
    for turn in itertools.count():
        yield from (Drawn(part, (places + turn * GOLDEN) % 1.0) for part, places in parts)


def _evenly(numbers: np.random.RandomState, n: int) -> NDArray[np.float64]:
    """(n,): one place in each n-th of the path, in any order."""
    return np.asarray((numbers.permutation(n) + numbers.uniform()) / n)

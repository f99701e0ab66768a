"""Sets of features, as KernelSHAP and LIME draw them: (K,) bool each, True where a feature is there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def every_set(features: int, rng: np.random.Generator) -> Iterator[Array]:
    """All but the empty and the full one, in any order, so that a part of them is a fair part."""
    for number in 1 + rng.permutation(2**features - 2):
        yield (number >> np.arange(features)) % 2 == 1


def kernel_weights(features: int) -> list[float]:
    """By size: (K - 1) / (C(K, s) s (K - s))."""
    sizes = range(1, features)
    return [0.0, *((features - 1) / (math.comb(features, s) * s * (features - s)) for s in sizes), 0.0]


def by_kernel(features: int, rng: np.random.Generator) -> Iterator[Array]:
    """Sets drawn with the kernel's weight, so that they weigh the same, each followed by its complement."""
    sizes = np.arange(1, features)
    probabilities = 1 / (sizes * (features - sizes))
    probabilities /= probabilities.sum()
    while True:
        present = np.zeros(features, bool)
        present[rng.permutation(features)[: rng.choice(sizes, p=probabilities)]] = True
        yield present
        yield ~present


def by_coin(features: int, rng: np.random.Generator) -> Iterator[Array]:
    """The instance itself, then each feature there or not."""
    yield np.ones(features, bool)
    while True:
        yield rng.random(features) < 0.5

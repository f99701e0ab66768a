"""The slope of memory over time, against lines whose slope is known."""

from __future__ import annotations

import numpy as np
import pytest

from bench.soak import slope

HOURS = np.arange(400) / 400


def test_a_straight_line_is_found_exactly() -> None:
    found = slope(HOURS, 300 + 12 * HOURS)
    assert found.value == pytest.approx(12)
    assert found.error == pytest.approx(0, abs=1e-6)


def test_the_error_covers_a_wandering_level() -> None:
    """Of many flat but correlated series, few are further from 0 than two standard errors."""
    beyond = 0
    for seed in range(200):
        steps = np.random.default_rng(seed).normal(size=400)
        wander = np.zeros(400)
        for i in range(1, 400):
            wander[i] = 0.8 * wander[i - 1] + steps[i]
        found = slope(HOURS, wander)
        beyond += abs(found.value) > 2 * found.error
    assert beyond <= 30  # 10 expected; without the correlation it were about 100

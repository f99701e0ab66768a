"""Rank correlations against scipy's and against orders known by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from service.explain.agreement import agreement
from service.explain.answer import Explanation


def explanation(name: str, values: list[float] | np.ndarray | None, *, signed: bool = True) -> Explanation:
    attributions = None if values is None else {"x": np.asarray(values, np.float32)}
    return Explanation(attributions, {"method": name, "signed": signed})


def test_it_is_spearmans_with_ties_sharing_their_rank() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, (2, 40)).astype(np.float32)  # many ties
    found = agreement([explanation("a", a), explanation("b", b)])
    assert found.methods == ("a", "b")
    assert found.spearman[0][1] == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
    assert found.spearman[0][0] == pytest.approx(1)
    assert found.spearman[0][1] == found.spearman[1][0]


def test_opposite_orders_are_minus_one() -> None:
    found = agreement([explanation("a", [1, 2, 3, 4]), explanation("b", [4, 3, 2, 1])])
    assert found.spearman[0][1] == -1


def test_magnitudes_are_compared_with_magnitudes() -> None:
    found = agreement([explanation("signed", [-3, 1, 2, -4]), explanation("unsigned", [3, 1, 2, 4], signed=False)])
    assert found.spearman[0][1] == 1


@pytest.mark.parametrize("other", [None, [0.5, 0.5, 0.5]], ids=["no attributions", "all alike"])
def test_nothing_to_rank_is_null(other: list[float] | None) -> None:
    assert agreement([explanation("a", [1, 2, 3]), explanation("b", other)]).spearman[0][1] is None


def test_several_inputs_are_ranked_together() -> None:
    one = Explanation({"x": np.asarray([1.0, 4.0]), "y": np.asarray([2.0])}, {"method": "one", "signed": True})
    two = Explanation({"y": np.asarray([2.0]), "x": np.asarray([1.0, 4.0])}, {"method": "two", "signed": True})
    assert agreement([one, two]).spearman[0][1] == 1

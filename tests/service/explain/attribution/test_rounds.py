"""Which samples are drawn: the same for a seed however many are taken, every reference as often, evenly over the path."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from service.explain.attribution.rounds import FEWEST, MOST, as_captum, balanced


@pytest.mark.parametrize("references", [1, 3, 30, 64, 65, 200])
def test_every_reference_comes_as_often_and_places_are_spread_evenly(references: int) -> None:
    rounds = list(islice(balanced(np.random.RandomState(3), references), 24))
    assert {len(r.places) for r in rounds} <= set(range(min(FEWEST, references), MOST + 1))
    turn = -(-references // MOST)  # rounds until every one has come
    taken = np.bincount(np.concatenate([r.references for r in rounds[:turn]]), minlength=references)
    assert len(set(taken.tolist())) == 1
    for one in rounds:
        n = len(one.places)
        spread = np.sort(one.places)
        np.testing.assert_allclose(np.diff(spread), 1 / n, atol=1e-9)
    own = np.sort(np.concatenate([r.places[r.references == 0] for r in rounds]))
    assert np.diff(np.concatenate([own, own[:1] + 1])).max() < 3 / len(own)


def test_draws_are_the_seeds() -> None:
    few, more = (list(islice(balanced(np.random.RandomState(7), 100), n)) for n in (2, 5))
    other = next(balanced(np.random.RandomState(8), 100))
    for a, b in zip(few, more, strict=False):
        np.testing.assert_array_equal(a.references, b.references)
        np.testing.assert_array_equal(a.places, b.places)
    assert not np.array_equal(other.places, few[0].places)


def test_a_fixed_number_is_drawn_in_captums_order() -> None:
    (one,) = as_captum(np.random.RandomState(5), 9, 20)
    numbers = np.random.RandomState(5)
    np.testing.assert_array_equal(one.references, numbers.choice(9, 20))
    np.testing.assert_array_equal(one.places, numbers.uniform(0.0, 1.0, 20))
    np.testing.assert_array_equal(one.part(4, 9).places, one.places[4:9])

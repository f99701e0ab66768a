"""The course of paths whose turns are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from service.explain.course import CELLS, FEWEST, MOST, Course, calls_in_rows, turns

MIDDLES = (np.arange(CELLS) + 0.5) / CELLS


def kinks(seed: int, low: float, high: float, units: int = 300) -> np.ndarray:
    """(CELLS, units): slopes in the middle of each cell of units that start somewhere between `low` and `high`."""
    rng = np.random.default_rng(seed)
    starts, rises = rng.uniform(low, high, units), rng.normal(size=units)
    return ((starts < MIDDLES[:, None]) * rises).astype(np.float32)


def test_pieces_are_narrow_where_typical_instances_turn() -> None:
    course = Course.of("zeros", [turns(kinks(seed, 0.0, 0.25)) for seed in range(4)])
    cuts = course.cuts(0.05, 512)
    assert (cuts[0], cuts[-1]) == (0, pytest.approx(1))
    assert (np.diff(cuts) > 0).all()
    assert (cuts < 0.3).mean() > 0.75


def test_a_tighter_tolerance_takes_more_pieces_in_proportion() -> None:
    course = Course.of("zeros", [turns(kinks(seed, 0.0, 1.0)) for seed in range(4)])
    loose, tight = len(course.cuts(0.03, 512)) - 1, len(course.cuts(0.015, 512)) - 1
    assert FEWEST < loose < tight <= MOST
    assert tight == pytest.approx(2 * loose, rel=0.15)


def test_pieces_stay_within_what_is_allowed() -> None:
    course = Course.of("zeros", [turns(kinks(1, 0.0, 1.0))])
    assert len(course.cuts(1e-9, 512)) - 1 == MOST
    assert len(course.cuts(1e-9, 20)) - 1 == 20
    assert len(course.cuts(1e9, 512)) - 1 == FEWEST
    assert len(course.cuts(1e9, 3)) - 1 == 3


def test_pieces_asked_for_in_turns_are_those_of_a_course_that_was_never_asked() -> None:
    seen = [turns(kinks(seed, 0.0, 1.0)) for seed in range(4)]
    course = Course.of("zeros", seen)
    for spread, most in [(0.03, 512), (0.015, 512), (0.03, 7)] * 2:
        np.testing.assert_array_equal(course.cuts(spread, most), Course.of("zeros", seen).cuts(spread, most))


def test_no_explanation_changes_the_pieces_of_the_next() -> None:
    cuts = Course.of("zeros", [turns(kinks(1, 0.0, 1.0))]).cuts(0.03, 512)
    with pytest.raises(ValueError, match="read-only"):
        cuts[0] = 0.5


def test_straight_lines_take_the_fewest_evenly() -> None:
    np.testing.assert_allclose(Course.of("zeros", [turns(np.ones((CELLS, 3), np.float32))]).cuts(0.1, 512), np.linspace(0, 1, FEWEST + 1))


def test_gradients_of_zero_or_no_number_are_cut_evenly() -> None:
    for value in (0.0, np.nan):
        course = Course.of("zeros", [turns(np.full((CELLS, 3), value, np.float32))])
        np.testing.assert_allclose(course.cuts(0.1, 512), np.linspace(0, 1, FEWEST + 1))


def test_the_dearer_another_pass_the_more_pieces_come_first() -> None:
    course = Course.of("zeros", [turns(kinks(seed, 0.0, 1.0)) for seed in range(4)])
    counts = [len(replace(course, call=call).cuts(0.03, 512)) for call in (0.0, 4.0, 30.0)]
    assert counts == sorted(set(counts))
    assert counts[-1] < 2 * counts[0]


def test_a_small_networks_pass_costs_many_of_its_rows() -> None:
    assert calls_in_rows(operators=50, bytes_a_row=40 * 2**20) < 0.1
    assert 5 < calls_in_rows(operators=15, bytes_a_row=64 * 2**10) < 20
    assert calls_in_rows(operators=7, bytes_a_row=0) == calls_in_rows(operators=7, bytes_a_row=1) == 32

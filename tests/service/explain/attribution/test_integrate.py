"""The integrator on paths whose integrals are known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from service.explain.attribution.integrate import (
    Goal,
    Places,
    Rule,
    TooRough,
    cuts_by_density,
    cuts_by_movement,
    integrate,
    strangeness,
    variances,
)
from service.explain.cancel import TimeUp


class Path:
    """Elements F_m of F along the path, their derivatives, and how often each was asked."""

    def __init__(self, *elements: tuple[Callable[[float], float], Callable[[float], float]]) -> None:
        self._elements = elements
        self.rows = 0
        self.asked = 0

    def along(self, nodes: Places) -> np.ndarray:
        self.rows += len(nodes)
        return np.asarray([[slope(x) for _, slope in self._elements] for x in nodes], np.float32)

    def heights(self, places: Places) -> np.ndarray:
        self.asked += len(places)
        return np.asarray([sum(f(x) for f, _ in self._elements) for x in places])

    @property
    def integral(self) -> np.ndarray:
        return np.asarray([f(1.0) - f(0.0) for f, _ in self._elements])

    def goal(self, allowed: float, spread: float = 0.1, most: int = 512, trusted: bool = True) -> Goal:
        return Goal(float(self.integral.sum()), allowed, spread, most, trusted)


def evenly(pieces: int) -> Places:
    return np.linspace(0, 1, pieces + 1)


def line(rise: float) -> tuple[Callable[[float], float], Callable[[float], float]]:
    return (lambda x: rise * x, lambda _: rise)


def kink(at: float, rise: float = 1.0) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """A unit that starts at `at`, as ReLUs do."""
    return (lambda x: rise * max(0.0, x - at), lambda x: rise * float(x > at))


def step(at: float, width: float) -> tuple[Callable[[float], float], Callable[[float], float]]:
    return (lambda x: math.tanh((x - at) / width), lambda x: 1 / width / math.cosh((x - at) / width) ** 2)


WAVE = (lambda x: math.sin(400 * x), lambda x: 400 * math.cos(400 * x))
KINKS = [kink(float(at), float(rise)) for at, rise in np.random.default_rng(5).normal([0.4, 0.0], [0.2, 1.0], (200, 2))]


@pytest.mark.parametrize(
    "elements",
    [[line(3.0)], [(lambda x: x**3, lambda x: 3 * x * x)], [kink(0.37), line(1.0)], [step(0.81, 0.005)], KINKS],
    ids=["line", "cube", "kink", "step", "network"],
)
def test_the_sum_is_the_rise_and_the_distance_is_as_asked(elements) -> None:
    path = Path(*elements)
    found = integrate(path.along, path.heights, cuts_by_movement(path.heights, 12), path.goal(1e-3, 0.05))
    assert found.reached
    assert not found.timed_out
    assert found.attributions.sum() == pytest.approx(path.integral.sum(), abs=1e-3)
    assert np.linalg.norm(found.attributions - path.integral) <= 2 * 0.05 * np.linalg.norm(path.integral)
    assert found.steps == path.rows <= 512


def test_a_line_takes_the_first_nodes_only_and_has_no_error() -> None:
    path = Path(line(3.0), line(-1.0))
    found = integrate(path.along, path.heights, evenly(4), path.goal(1e-9))
    assert (found.steps, found.spread, found.missed) == (4, pytest.approx(0, abs=1e-6), pytest.approx(0, abs=1e-6))
    np.testing.assert_allclose(found.attributions, [3, -1], rtol=1e-6)


def test_the_estimated_distance_is_near_the_true_one_for_kinks_at_random_places() -> None:
    ratios = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        path = Path(*[kink(float(at), float(rise)) for at, rise in zip(rng.uniform(0, 1, 300), rng.normal(size=300), strict=True)])
        found = integrate(path.along, path.heights, evenly(12), path.goal(math.inf, math.inf, trusted=False))
        ratios.append(found.spread * np.linalg.norm(found.attributions) / np.linalg.norm(found.attributions - path.integral))
    assert 0.8 < np.median(ratios) < 1.6
    assert np.percentile(ratios, 5) > 0.6


def test_rounding_is_part_of_the_distance_and_leaves_less_for_the_rule() -> None:
    exact, rough = Path(*KINKS), Path(*KINKS)
    without = integrate(exact.along, exact.heights, evenly(12), exact.goal(1e-3, 0.05))
    found = integrate(rough.along, rough.heights, evenly(12), replace(rough.goal(1e-3, 0.05), rounding=lambda: 0.02))
    assert found.reached
    assert found.spread <= 0.05
    assert found.steps >= without.steps
    assert found.spread > without.spread or found.steps > without.steps
    with pytest.raises(TooRough):
        integrate(rough.along, rough.heights, evenly(12), replace(rough.goal(1e-3, 0.05), rounding=lambda: 0.03))


def test_calibration_takes_the_difference_away_and_hardly_moves_the_rest() -> None:
    path = Path(*KINKS)
    plain = integrate(path.along, path.heights, evenly(24), path.goal(math.inf, math.inf, trusted=False))
    found = integrate(path.along, path.heights, evenly(24), path.goal(1e-6, math.inf))
    assert abs(plain.attributions.sum() - path.integral.sum()) > 1e-3
    assert plain.missed == pytest.approx(plain.attributions.sum() - path.integral.sum(), rel=1e-3)
    assert found.missed == plain.missed
    assert found.attributions.sum() == pytest.approx(path.integral.sum(), abs=1e-5)
    apart = [float(np.linalg.norm(attributions - path.integral)) for attributions in (found.attributions, plain.attributions)]
    assert apart[0] < 1.25 * apart[1]


def test_wrong_gradients_are_not_calibrated_away() -> None:
    """Straight lines with the wrong slope: no error of any rule, so the difference stays and is told."""
    path = Path((lambda x: 3 * x, lambda _: 2.0), (lambda x: x * x, lambda x: 2 * x))
    found = integrate(path.along, path.heights, evenly(12), path.goal(0.04, 1.0, most=40))
    assert not found.reached
    assert found.missed == pytest.approx(-1, abs=0.01)
    assert found.attributions.sum() == pytest.approx(3, abs=0.01)


def test_gradients_known_to_be_untrue_are_never_calibrated() -> None:
    path = Path(*KINKS)
    found = integrate(path.along, path.heights, evenly(12), path.goal(math.inf, math.inf, trusted=False))
    np.testing.assert_allclose(found.attributions, path.along((np.arange(12) + 0.5) / 12).mean(0), rtol=1e-4, atol=1e-6)


def test_a_step_takes_far_fewer_rows_than_even_nodes() -> None:
    """1/100 wide: even midpoints need hundreds to sum it to one part in a thousand."""
    path = Path(step(0.81, 0.005))
    even = next(n for n in range(16, 4096) if abs(path.along((np.arange(n) + 0.5) / n).mean() - 2) <= 2e-3)
    path.rows = 0
    found = integrate(path.along, path.heights, cuts_by_movement(path.heights, 12), path.goal(2e-3, 1.0, trusted=False))
    assert found.reached
    assert abs(found.missed) <= 2e-3
    assert found.steps < even / 2


def test_pieces_are_narrow_where_the_output_moves_and_nowhere_missing() -> None:
    cuts = cuts_by_movement(Path(step(0.81, 0.005)).heights, 16)
    assert (cuts[0], cuts[-1]) == (0, pytest.approx(1))
    assert (np.diff(cuts) > 0).all()
    near = int(np.searchsorted(cuts, 0.81))
    assert cuts[near] - cuts[near - 1] < 1 / 16 / 3
    assert np.diff(cuts).max() <= 10 / 16  # a tenth of the nodes is spread evenly


@pytest.mark.parametrize("density", [0.0, 5.0, math.inf, math.nan])
def test_a_flat_or_impossible_density_is_cut_evenly(density: float) -> None:
    np.testing.assert_allclose(cuts_by_density(np.full(8, density), 4), [0, 0.25, 0.5, 0.75, 1])


def test_vectors_on_a_line_have_no_variance_and_two_tell_nothing() -> None:
    cuts = np.asarray([0, 0.1, 0.4, 1.0])
    rule = Rule(cuts, ((cuts[1:] + cuts[:-1]) / 2)[:, None].astype(np.float32) @ np.ones((1, 5), np.float32))
    assert variances(rule, rule.vectors)[1] == pytest.approx(0, abs=1e-12)
    assert np.isinf(variances(Rule(cuts[:3], rule.vectors[:2]), rule.vectors[:2])).all()


def test_no_more_rows_than_allowed() -> None:
    path = Path(WAVE)
    found = integrate(path.along, path.heights, evenly(12), path.goal(1e-12, 1e-9, most=40))
    assert not found.reached
    assert found.steps == path.rows <= 40


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_vectors_that_are_no_numbers_end_it(wrong: float) -> None:
    path = Path((lambda x: x, lambda x: wrong if x > 0.5 else 1.0))
    found = integrate(path.along, path.heights, evenly(12), path.goal(0.01))
    assert not found.reached
    assert found.steps == path.rows == 12


def test_time_that_runs_out_leaves_the_best_so_far() -> None:
    path = Path(WAVE)

    def along(nodes: Places) -> np.ndarray:
        if path.rows >= 24:
            raise TimeUp
        return path.along(nodes)

    found = integrate(along, path.heights, evenly(12), path.goal(1e-12, 1e-9))
    assert found.timed_out
    assert not found.reached
    assert found.steps == path.rows


def test_no_time_at_all_is_no_answer() -> None:
    def along(nodes: Places) -> np.ndarray:
        raise TimeUp

    path = Path(WAVE)
    with pytest.raises(TimeUp):
        integrate(along, path.heights, evenly(12), path.goal(0.01))


@pytest.mark.parametrize("life", [0.002, 0.01, 0.05, 1.0], ids=lambda life: f"turns every {life}")
def test_the_estimate_holds_at_nodes_too_far_apart_to_know_of_each_other(life) -> None:
    """A thousand elements that take a new value at random places, `life` apart in the mean; nodes lie 1/8 apart."""
    fine, pieces, rng = 4096, 8, np.random.default_rng(7)
    draws = rng.standard_normal((fine, 1000)).astype(np.float32)
    fresh = rng.random((fine, 1000)) < 1 / (life * fine)
    fresh[0] = True
    latest = np.maximum.accumulate(np.where(fresh, np.arange(fine)[:, None], 0), axis=0)
    values = np.take_along_axis(draws, latest, axis=0)  # (fine, 1000)
    cuts = evenly(pieces)
    rule = Rule(cuts, values[fine // pieces // 2 :: fine // pieces])
    true = np.linalg.norm(rule.widths @ rule.vectors - values.mean(0))
    estimated = math.sqrt(variances(rule, rule.vectors).sum() * strangeness(rule.vectors))
    assert estimated == pytest.approx(true, rel=0.2)


def test_near_nodes_are_no_strangers() -> None:
    """Brownian paths, and straight ones."""
    paths = np.cumsum(np.random.default_rng(3).standard_normal((12, 5000)), 0)
    assert strangeness(paths) == pytest.approx(1, abs=0.05)
    assert strangeness(np.linspace(0, 1, 12)[:, None] * np.ones(3)) == pytest.approx(1)


def test_a_coarse_answer_says_how_coarse_it_is() -> None:
    """Eight nodes on elements that turn a hundred times: what `integrate` tells is what it misses."""
    rng = np.random.default_rng(11)
    waves = [(rng.uniform(0, 6.28), rng.uniform(300, 900)) for _ in range(400)]
    path = Path(*((lambda x, a=a, b=b: x + math.sin(a + b * x) / b, lambda x, a=a, b=b: 1 + math.cos(a + b * x)) for a, b in waves))
    found = integrate(path.along, path.heights, evenly(8), path.goal(400.0, spread=1.0))
    missed = np.linalg.norm(found.attributions - path.integral) / np.linalg.norm(path.integral)
    assert found.steps == 8
    assert found.spread == pytest.approx(missed, rel=0.3)

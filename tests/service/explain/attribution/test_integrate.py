"""The integrator on functions of one number whose integrals are known: x from 0 to 1, so F'(x) is the whole gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from service.explain.attribution.integrate import Places, first_cuts, integrate
from service.explain.cancel import TimeUp


class Path:
    """F along the path, its derivative, and how often each was asked."""

    def __init__(self, f, slope) -> None:
        self._f, self._slope = f, slope
        self.rows = 0
        self.asked = 0

    def attribute(self, nodes: Places, widths: Places) -> tuple[torch.Tensor, ...]:
        self.rows += len(nodes)
        return (torch.from_numpy(np.asarray([self._slope(x) for x in nodes]) * widths)[:, None],)

    def heights(self, places: Places) -> Places:
        self.asked += len(places)
        return np.asarray([self._f(x) for x in places])

    @property
    def rise(self) -> float:
        return self._f(1.0) - self._f(0.0)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (Path(lambda x: 3 * x, lambda _: 3.0), 1e-9),
        (Path(lambda x: x**3, lambda x: 3 * x * x), 1e-5),
        (Path(lambda x: max(0.0, x - 0.37), lambda x: float(x > 0.37)), 1e-4),
        (Path(lambda x: math.tanh(200 * (x - 0.81)), lambda x: 200 / math.cosh(200 * (x - 0.81)) ** 2), 1e-3),
        (Path(lambda x: math.sin(40 * x), lambda x: 40 * math.cos(40 * x)), 1e-3),
    ],
    ids=["line", "cube", "kink", "step", "wave"],
)
def test_the_sum_is_the_rise(path: Path, allowed: float) -> None:
    found = integrate(path.attribute, path.heights, allowed, 512)
    assert float(found.attributions[0]) == pytest.approx(path.rise, abs=allowed)
    assert found.steps == path.rows <= 512
    assert not found.timed_out


def test_a_line_takes_the_first_nodes_only() -> None:
    path = Path(lambda x: 3 * x, lambda _: 3.0)
    assert integrate(path.attribute, path.heights, 1e-9, 512).steps == 16


def test_a_step_takes_far_fewer_rows_than_even_nodes() -> None:
    """The step at 0.81 is 1/100 wide: even midpoints need hundreds to sum it to one part in a thousand."""
    path = Path(lambda x: math.tanh(200 * (x - 0.81)), lambda x: 200 / math.cosh(200 * (x - 0.81)) ** 2)
    even = next(n for n in range(16, 4096) if abs(path.attribute((np.arange(n) + 0.5) / n, np.full(n, 1 / n))[0].sum() - 2) <= 2e-3)
    path.rows = 0
    assert integrate(path.attribute, path.heights, 2e-3, 4096).steps < even / 2


def test_first_pieces_are_narrow_where_the_output_moves_and_nowhere_missing() -> None:
    path = Path(lambda x: math.tanh(200 * (x - 0.81)), lambda _: 0.0)
    cuts = first_cuts(path.heights, 16)
    assert cuts[0] == 0
    assert cuts[-1] == pytest.approx(1)
    assert (np.diff(cuts) > 0).all()
    near = int(np.searchsorted(cuts, 0.81))
    assert cuts[near] - cuts[near - 1] < 1 / 16 / 3
    assert np.diff(cuts).max() < 4 / 16  # a part of the nodes is spread evenly


@pytest.mark.parametrize("height", [0.0, 5.0, math.inf, math.nan])
def test_a_flat_or_impossible_output_is_cut_evenly(height: float) -> None:
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(first_cuts(lambda places: np.full(len(places), height), 4), [0, 0.25, 0.5, 0.75, 1])


def test_no_more_rows_than_allowed() -> None:
    path = Path(lambda x: math.sin(400 * x), lambda x: 400 * math.cos(400 * x))
    found = integrate(path.attribute, path.heights, 1e-12, 40)
    assert found.steps == path.rows <= 40


def test_time_that_runs_out_leaves_the_best_so_far() -> None:
    path = Path(lambda x: math.sin(400 * x), lambda x: 400 * math.cos(400 * x))

    def attribute(nodes: Places, widths: Places) -> tuple[torch.Tensor, ...]:
        if path.rows >= 24:
            raise TimeUp
        return path.attribute(nodes, widths)

    found = integrate(attribute, path.heights, 1e-12, 512)
    assert found.timed_out
    assert 16 <= found.steps <= 28

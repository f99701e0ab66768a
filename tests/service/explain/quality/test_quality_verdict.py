"""The words of a verdict for figures made up here: how an order is graded by how far it lies beyond chance."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.explain.quality.curves import Curve, Curves
from service.explain.quality.figures import Figures
from service.explain.quality.verdict import Asked, Grade, verdict_of

ASKED = Asked("share", "logit", 0.01, True, 5.0, attributed=True, has_baseline=True, others=("occlusion",))


def figures(beyond: float, units: int = 20) -> Figures:
    """Of an order whose insertion lies 0.5 above its deletion (or below it), `beyond` standard deviations of random orders."""
    deletion, insertion = (
        Curve(area, 0.5, 0.1, 0.02, (1.0, 0.0), (1.0, 0.0), (0.0, 1.0)) for area in ((0.25, 0.75) if beyond > 0 else (0.75, 0.25))
    )
    curves = Curves(deletion, insertion, "probability", span=1.0, moved=5.0, chance=0.5 / abs(beyond), rows=100)
    return Figures(None, None, None, units, "columns", curves, None, None, timed_out=False, seconds=0.1)


@pytest.mark.parametrize(
    ("beyond", "units", "grade", "words"),
    [
        (3.0, 20, Grade.GOOD, "what it ranks highest matters most"),
        (1.5, 20, Grade.FAIR, "better than most random ones, but by 1.5 standard deviations only, 2.2 would leave no doubt"),
        (0.5, 20, Grade.BAD, "no better than a random one"),
        (-3.0, 20, Grade.BAD, "worse than a random one"),
        (1.5, 4, Grade.UNKNOWN, "can't be told from a lucky one"),
    ],
)
def test_an_order_is_graded_by_how_far_it_lies_beyond_chance(beyond: float, units: int, grade: Grade, words: str) -> None:
    verdict = verdict_of(figures(beyond, units), ASKED)
    assert verdict.grade is grade
    assert words in verdict.text


def complete(error: float, distance: float | None, *, converged: bool = True) -> str:
    return verdict_of(replace(figures(3.0), completeness_error=error, integration_error=distance), replace(ASKED, converged=converged)).text


def test_a_sum_that_is_made_to_fit_is_told_with_the_distance_from_the_integral() -> None:
    """Integrated gradients' sum is calibrated: alone it would promise too much."""
    assert "Good: the attributions add up to the logit's change and are about 9.3% off the exact integral" in complete(1e-9, 0.093)
    missed = complete(1e-9, 0.34, converged=False)
    assert "about 34.0% off the exact integral" in missed or "about 34% off the exact integral" in missed
    assert "more steps or samples" in missed
    assert "Good: the attributions" not in missed


def test_a_distance_that_was_asked_for_is_not_good_for_that() -> None:
    told = complete(1e-9, 0.4, converged=True)
    assert "Good: the attributions" not in told
    assert "a smaller integration_tolerance" in told


def test_a_sum_alone_is_told_as_it_is() -> None:
    assert "add up to the logit's change from the baseline to 0.4%" in complete(0.004, None)
    assert "miss the logit's change from the baseline by 20" in complete(0.2, 0.05)

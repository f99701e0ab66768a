"""Shapley values by sampling the orders in which features come in (Castro, Gomez, Tejada 2009, doi:10.1016/j.cor.2008.04.004)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.explain.attribution.found import Found
from service.explain.attribution.game import Game
from service.explain.attribution.problem import captum_class
from service.explain.cancel import TimeUp
from service.explain.case import Case
from service.explain.features import absent, choose
from service.explain.methods.perturbation import ShapleyParameters

Array = NDArray[Any]
AT_ONCE = 64
"""Sets of features that Captum makes before it asks for their values."""


def run(case: Case) -> Found:
    """Captum's method, an order at a time, so that what there is when the time is up is an answer too. Where all orders of the
    features are no more than `n_samples`, each is taken once and the values are exact."""
    parameters = case.request.parameters
    assert isinstance(parameters, ShapleyParameters)  # the table says so
    missing = absent.choose(case)
    game = Game(case, choose(case.request, case.subject.manifest, case.feeds), missing)
    exact = game.count <= 8 and math.factorial(game.count) <= parameters.n_samples
    asked = math.factorial(game.count) if exact else parameters.n_samples
    orders = itertools.permutations(range(game.count)) if exact else _drawn(game.count, asked, parameters.seed)
    found, timed_out = _in_orders(case, game, orders)
    values = found.mean(0)
    warnings = (f"the time was up after {len(found)} of {asked} orders of the features",) if timed_out else ()
    return Found(
        game.attributions(values),
        steps=len(found),
        rows=game.rows,
        timed_out=timed_out,
        baseline=absent.described(missing),
        baseline_output=game.empty,
        parameters={"features": game.described, "n_samples": len(found), "exact": exact and not timed_out},
        warnings=warnings,
        fields=game.drawing(values) | ({} if exact else {"standard_error": _standard_error(found)}),
    )


def _drawn(features: int, count: int, seed: int) -> Iterator[Sequence[int]]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield rng.permutation(features).tolist()


def _in_orders(case: Case, game: Game, orders: Iterator[Sequence[int]]) -> tuple[Array, bool]:
    """What each feature adds in each order, (S, K), and whether the time was up. Raises TimeUp before the first is whole."""
    captum = captum_class(case.request.method)(game.forward)
    found: list[Array] = []
    if game.count == 0:
        return np.zeros((1, 0)), False
    for order in orders:
        captum.permutation_generator = lambda *_, order=order: iter([order])
        try:
            found.append(captum.attribute(game.ones, baselines=0, n_samples=1, perturbations_per_eval=AT_ONCE)[0].double().numpy())
        except TimeUp:
            if not found:
                raise
            return np.stack(found), True
    return np.stack(found), False


def _standard_error(found: Array) -> float | None:
    """The largest of the features' standard errors, in F's unit; None from one order, which tells none."""
    return float(found.std(0, ddof=1).max(initial=0.0) / math.sqrt(len(found))) if len(found) > 1 else None

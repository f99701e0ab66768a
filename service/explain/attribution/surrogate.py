"""Methods that fit a linear model to F over sets of features: KernelSHAP and LIME, by Captum, on draws of our own.

Draws are the request's: by its seed, not by how many rows a pass has, and they end early where the time runs out.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.errors import BadParameter
from service.explain.attribution.coalitions import by_coin, by_kernel, every_set, kernel_weights
from service.explain.attribution.found import Found
from service.explain.attribution.game import Game
from service.explain.attribution.linear import Constrained, Scored
from service.explain.attribution.problem import captum_class
from service.explain.cancel import TimeUp
from service.explain.case import Case
from service.explain.features import absent, choose
from service.explain.methods.perturbation import KernelShapParameters, LimeParameters

Array = NDArray[Any]
AT_ONCE = 64
"""Sets of features that Captum makes before it asks for their values."""
RESERVE = 0.1
"""Of the time a request may take, left for the fit and for the answer."""
ENUMERATED = 16
"""Of at most so many features all sets can be listed."""
POOR = 0.5
"""A coefficient of determination below this is worth a warning."""
MOST_NUMBERS = 4_000_000
"""Samples times features: what is fitted is held in float64, some times over."""


def kernel_shap(case: Case) -> Found:
    """Shapley values as the weighted least squares fit under the constraint that they sum to F(x) - F(b) (Lundberg and Lee 2017,
    https://arxiv.org/abs/1705.07874). Where there are no more sets of features than `n_samples`, each is taken once and the
    values are exact; otherwise sets are drawn by their kernel weight, each with its complement (Covert and Lee 2021)."""
    parameters = case.request.parameters
    assert isinstance(parameters, KernelShapParameters)  # the table says so
    fit = _Fit.of(case)
    exact = fit.game.count <= ENUMERATED and 2**fit.game.count <= parameters.n_samples
    rng = np.random.default_rng(parameters.seed)
    draws = every_set(fit.game.count, rng) if exact else by_kernel(fit.game.count, rng)
    weights = kernel_weights(fit.game.count) if exact else None

    def weight(_: Tensor, __: Tensor, present: Tensor, **___: Any) -> float:
        return 1.0 if weights is None else weights[int(present.sum())]

    # Captum's own fit holds the constraint by weights of a million in float32; this one holds it exactly.
    captum = captum_class(case.request.method)(fit.game.forward)
    captum.similarity_func = weight
    captum.interpretable_model = Constrained(fit.game.full - fit.game.empty, fit.game.empty)
    most = max(0, 2**fit.game.count - 2) if exact else parameters.n_samples
    return fit.found(captum, draws, most, least=fit.game.count, exact=exact)


def lime(case: Case) -> Found:
    """Coefficients of a ridge regression on sets of features, each there with probability 1/2, weighted by how near they are to
    the instance (Ribeiro, Singh, Guestrin 2016, https://arxiv.org/abs/1602.04938)."""
    parameters = case.request.parameters
    assert isinstance(parameters, LimeParameters)  # the table says so
    fit = _Fit.of(case)
    from captum._utils.models.linear_model import SkLearnRidge
    from captum.attr._core.lime import get_exp_kernel_similarity_function

    model = Scored(SkLearnRidge(alpha=parameters.alpha))
    captum = captum_class(case.request.method)(
        fit.game.forward,
        interpretable_model=model,
        similarity_func=get_exp_kernel_similarity_function(parameters.distance, parameters.kernel_width),
    )
    draws = by_coin(fit.game.count, np.random.default_rng(parameters.seed))
    found = fit.found(captum, draws, parameters.n_samples, least=fit.game.count + 1, exact=False)
    if model.score is None:
        return found
    rough = f"the linear model tells {model.score:.0%} of how the output varies around the instance: its coefficients are a rough picture"
    said = (*found.warnings, rough) if model.score < POOR else found.warnings
    return replace(found, warnings=said, fields={**found.fields, "fit": model.score})


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """A game whose values a linear model is fitted to."""

    case: Case
    game: Game
    missing: dict[str, absent.Absent]

    @classmethod
    def of(cls, case: Case) -> _Fit:
        missing = absent.choose(case)
        return cls(case, Game(case, choose(case.request, case.subject.manifest, case.feeds), missing), missing)

    def found(self, captum: Any, draws: Iterator[Array], most: int, *, least: int, exact: bool) -> Found:
        """`draws` are sets of features (K,) bool; `least` of them are needed to tell the features apart."""
        game = self.game
        if game.count > 1 and most < least:
            raise BadParameter(
                f"parameter 'n_samples': {most} samples can't tell {game.count} features apart, expected at least {least}, "
                "or fewer features ('n_features')"
            )
        if most * game.count > MOST_NUMBERS:
            raise BadParameter(
                f"parameter 'n_samples': {most} samples of {game.count} features are more than the {MOST_NUMBERS} numbers that a "
                "fit may take; expected fewer of either"
            )
        taken: list[Array] = []
        if game.count > 1:
            _ = game.empty, game.full
            captum.perturb_func = _perturbations(draws, most, taken, self._time_is_up)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Captum's, where the draws end before `n_samples`
                values = self._attribute(captum, most, taken, least)
        else:
            values = np.full(game.count, game.full - game.empty)
        timed_out = game.count > 1 and len(taken) < most
        return Found(
            game.attributions(values),
            steps=len(taken),
            rows=game.rows,
            timed_out=timed_out,
            baseline=absent.described(self.missing),
            baseline_output=game.empty,
            parameters={"features": game.described, "n_samples": len(taken)} | ({"exact": True} if exact and not timed_out else {}),
            warnings=(f"the time was up after {len(taken)} of {most} samples",) if timed_out else (),
            fields=game.drawing(values),
        )

    def _attribute(self, captum: Any, most: int, taken: list[Array], least: int) -> Array:
        """Raises TimeUp where the draws ended before there were enough."""
        if self._time_is_up():
            raise TimeUp
        ones = self.game.ones
        found: Array = captum.attribute(ones, baselines=0, n_samples=most, perturbations_per_eval=AT_ONCE, return_input_shape=False)
        if len(taken) < min(least, most) and self._time_is_up():
            raise TimeUp
        return torch.as_tensor(found).double().reshape(-1).numpy()

    def _time_is_up(self) -> bool:
        self.case.token.check()
        return self.case.token.remaining < RESERVE * self.case.request.timeout


def _perturbations(draws: Iterator[Array], most: int, taken: list[Array], enough: Callable[[], bool]) -> Callable[..., Iterator[Tensor]]:
    """What Captum draws its sets of features from, (1, K) each; notes which were `taken`."""

    def generate(_: Tensor, **__: Any) -> Iterator[Tensor]:
        for drawn in itertools.islice(draws, most):
            if len(taken) % AT_ONCE == 0 and enough():
                return
            taken.append(drawn)
            yield torch.from_numpy(drawn[None])

    return generate

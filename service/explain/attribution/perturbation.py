"""Methods by perturbation: which features are left out together, by Captum, and what the served model makes of that."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.explain import references
from service.explain.attribution import occlusion, shapley, surrogate
from service.explain.attribution.found import Found
from service.explain.attribution.game import Game
from service.explain.attribution.problem import captum_class
from service.explain.case import Case
from service.explain.features import absent, choose
from service.explain.methods.perturbation import PermutationParameters

Array = NDArray[Any]
AT_ONCE = 64
"""Sets of features that Captum makes before it asks for their values."""


def run(case: Case) -> Found:
    return _RUNNERS[case.request.method.name](case)


def _ablation(case: Case) -> Found:
    """F(x) - F(x without the feature), for each feature alone."""
    missing = absent.choose(case)
    game = Game(case, choose(case.request, case.subject.manifest, case.feeds), missing)
    captum = captum_class(case.request.method)(game.forward)
    values = captum.attribute(game.ones, baselines=0, perturbations_per_eval=AT_ONCE)[0].numpy() if game.count else np.zeros(0)
    return Found(
        game.attributions(values),
        steps=game.count,
        rows=game.rows,
        baseline=absent.described(missing),
        baseline_output=game.empty,
        parameters={"features": game.described},
        fields=game.drawing(values),
    )


def _permutation(case: Case) -> Found:
    """F(x) minus the mean of F where the feature is taken from the instances of the reference set, one after the other: for one
    instance, what permuting a feature among many does to it on average (Fisher, Rudin, Dominici 2019)."""
    parameters = case.request.parameters
    assert isinstance(parameters, PermutationParameters)  # the table says so
    drawn, warnings = _drawn(case, parameters.n_samples)
    game = Game(case, choose(case.request, case.subject.manifest, case.feeds), drawn, whole=True)
    draws = game.turns
    captum = captum_class(case.request.method)(
        lambda present, turns: torch.from_numpy(_in_turn(game, case, present, turns)), perm_func=_left_out
    )
    captum._min_examples_per_batch_grouped = None  # one reference instance is fine: nothing is permuted within Captum's batch
    found = captum.attribute(torch.ones(draws, game.count), additional_forward_args=(torch.arange(draws),)).numpy()  # (draws, K)
    values = found.mean(0)
    return Found(
        game.attributions(values),
        steps=draws,
        rows=game.rows,
        parameters={"features": game.described, "n_samples": draws},
        warnings=warnings,
        fields=game.drawing(values),
    )


def _left_out(present: Tensor, feature: Tensor) -> Tensor:
    """Captum's permutation: the feature, (1, K) bool, of every row comes from elsewhere."""
    return present * ~feature


def _in_turn(game: Game, case: Case, present: Tensor, turns: Tensor) -> Array:
    there = present.numpy() > 0.5
    return np.full(len(there), case.instance_output) if there.all() else game.value_in_turn(there, turns.numpy())


def _drawn(case: Case, most: int) -> tuple[dict[str, absent.Absent], tuple[str, ...]]:
    """At most so many instances of the reference set, drawn by the seed, by input; an input that it doesn't hold stays as it is."""
    known, warnings = references.instances(case)
    count = len(next(iter(known.values())))
    drawn = np.random.default_rng(case.request.parameters.seed).permutation(count)[:most] if count > most else np.arange(count)
    names = [entry.name for entry in case.subject.manifest.inputs]
    return {name: absent.Absent("reference", known[name][drawn] if name in known else case.feeds[name]) for name in names}, warnings


_RUNNERS: Final = MappingProxyType[str, Callable[[Case], Found]](
    {
        "occlusion": occlusion.run,
        "feature_ablation": _ablation,
        "feature_permutation": _permutation,
        "shapley_value_sampling": shapley.run,
        "kernel_shap": surrogate.kernel_shap,
        "lime": surrogate.lime,
    }
)

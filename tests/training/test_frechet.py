"""Figures of generated digits: against the closed form for Gaussians, scipy's matrix root and numpy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from training.frechet import class_variances, frechet_distance, likeness
from training.judge import Seen


def gaussian(rows: int, mean: Tensor, root: Tensor, seed: int) -> Tensor:
    """Features float64 (rows, F) whose sample mean and sample covariance are exactly `mean` and `root @ root.T`."""
    raw = torch.randn(rows, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    raw -= raw.mean(dim=0)
    white = raw @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(raw.T))).T
    return white @ root.T + mean


def test_gaussians_with_axes_in_common_have_a_closed_form() -> None:
    """For diagonal covariances it is |m1 - m2|^2 + sum((s1 - s2)^2), s the standard deviations (Dowson & Landau 1982)."""
    mean, other_mean = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), torch.tensor([0.0, 2.0, 0.5], dtype=torch.float64)
    spread, other_spread = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), torch.tensor([2.0, 0.5, 3.0], dtype=torch.float64)
    expected = (1 + 16 + 0) + (1 + 2.25 + 0)
    distance = frechet_distance(gaussian(500, mean, spread.diag(), 0), gaussian(300, other_mean, other_spread.diag(), 1))
    assert distance == pytest.approx(expected, rel=1e-9)


def test_gaussians_with_other_axes_agree_with_scipys_matrix_root() -> None:
    draw = torch.Generator().manual_seed(2)
    roots = [torch.randn(5, 5, generator=draw, dtype=torch.float64) for _ in range(2)]
    means = [torch.randn(5, generator=draw, dtype=torch.float64) for _ in range(2)]
    covariances = [(root @ root.T).numpy() for root in roots]
    middle = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = float((means[0] - means[1]).square().sum()) + np.trace(covariances[0] + covariances[1] - 2 * middle)
    sets = [gaussian(400, mean, root, seed) for seed, (mean, root) in enumerate(zip(means, roots, strict=True))]
    assert frechet_distance(*sets) == pytest.approx(expected, rel=1e-6)


def test_a_set_is_at_no_distance_from_itself_and_features_that_never_fire_do_no_harm() -> None:
    features = torch.cat([torch.randn(200, 3), torch.zeros(200, 2)], dim=1)  # singular covariance
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("shapes", [((5, 3), (5, 4)), ((1, 3), (5, 3)), ((5,), (5,))], ids=["other space", "one row", "no rows"])
def test_sets_that_cannot_be_compared_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="expected two sets of at least two rows"):
        frechet_distance(torch.zeros(shapes[0]), torch.zeros(shapes[1]))


def test_class_variances_are_the_traces_of_numpys_covariances() -> None:
    features = np.random.default_rng(3).normal(size=(60, 4)) * [1, 2, 3, 4]
    labels = np.arange(60) % 3
    expected = [np.trace(np.cov(features[labels == k].T)) for k in range(3)]
    assert class_variances(torch.from_numpy(features), torch.from_numpy(labels), 3).tolist() == pytest.approx(expected)


def test_a_class_of_one_row_has_no_variance() -> None:
    with pytest.raises(ValueError, match=r"at least two rows of each of 3 classes, got \[2, 1, 2\]"):
        class_variances(torch.zeros(5, 2), torch.tensor([0, 0, 1, 2, 2]), 3)


def seen(spread: tuple[float, float], predicted: list[int]) -> Seen:
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    unit = torch.tensor([-1.0, 1.0, -1.0, 1.0])
    features = torch.cat([unit * spread[0], unit * spread[1]])[:, None] + labels[:, None] * 10.0
    return Seen(features, torch.tensor(predicted), labels)


def test_likeness_shows_lost_modes_and_what_was_not_recognised() -> None:
    real, right = seen((1.0, 1.0), [0] * 4 + [1] * 4), [0] * 4 + [1] * 4
    figures = likeness(seen((1.0, 0.5), right), real, 2)
    assert figures.variance_ratios == pytest.approx((1.0, 0.25))
    assert figures.variance_ratio == pytest.approx(0.25)
    assert (figures.recognised, figures.recognised_worst) == (1.0, 1.0)
    figures = likeness(seen((1.0, 1.0), [0, 0, 0, 1, 1, 1, 0, 0]), real, 2)
    assert (figures.recognised, figures.recognised_worst) == (5 / 8, 1 / 2)
    assert figures.frechet == pytest.approx(0, abs=1e-6)


def test_likeness_wants_as_many_real_ones() -> None:
    real = seen((1.0, 1.0), [0] * 8)
    with pytest.raises(ValueError, match="sets of equal size, got 8 and 7 digits"):
        likeness(real, Seen(real.features[:7], real.predicted[:7], real.labels[:7]), 2)

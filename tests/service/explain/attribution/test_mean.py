"""The mean and its standard errors against numpy's on all samples at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from service.explain.attribution.mean import Mean


def test_independent_samples_have_the_textbook_errors() -> None:
    samples = np.random.default_rng(0).normal(1.0, 2.0, (50, 7)).astype(np.float32)
    mean = Mean(independent=True)
    for start in range(0, 50, 8):
        mean.add(torch.from_numpy(samples[start : start + 8]))
    wanted = samples.astype(np.float64).mean(0)
    assert (mean.count, mean.units) == (50, 50)
    np.testing.assert_allclose(mean.values, wanted, rtol=1e-6)
    assert mean.total == pytest.approx(wanted.sum(), rel=1e-6)
    assert mean.standard_error == pytest.approx(samples.sum(1).std(ddof=1) / 50**0.5, rel=1e-5)
    assert mean.spread == pytest.approx(np.sqrt((samples.var(0, ddof=1) / 50).sum()) / np.linalg.norm(wanted), rel=1e-5)


def test_rounds_stand_for_their_samples() -> None:
    rounds = np.random.default_rng(1).normal(1.0, 2.0, (6, 12, 5)).astype(np.float32)
    mean = Mean(independent=False)
    for one in rounds:
        mean.add(torch.from_numpy(one[:7]))
        mean.add(torch.from_numpy(one[7:]))
        mean.close()
    means = rounds.astype(np.float64).mean(1)  # (6, 5)
    assert (mean.count, mean.units) == (72, 6)
    np.testing.assert_allclose(mean.values, means.mean(0), rtol=1e-6)
    assert mean.standard_error == pytest.approx(means.sum(1).std(ddof=1) / 6**0.5, rel=1e-5)
    assert mean.spread == pytest.approx(np.sqrt((means.var(0, ddof=1) / 6).sum()) / np.linalg.norm(means.mean(0)), rel=1e-5)


def test_a_round_that_is_not_ended_does_not_count_and_one_tells_no_error() -> None:
    mean = Mean(independent=False)
    mean.add(torch.ones(4, 3))
    assert mean.units == mean.count == 0
    mean.close()
    mean.add(torch.full((4, 3), 9.0))
    assert mean.count == 4
    np.testing.assert_array_equal(mean.values, np.ones(3))
    assert mean.standard_error is mean.spread is None


def test_nothing_that_never_varies_has_no_error() -> None:
    mean = Mean(independent=True)
    mean.add(torch.zeros(4, 3))
    assert (mean.standard_error, mean.spread) == (0.0, 0.0)

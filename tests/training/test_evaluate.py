"""Figures of a classifier, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from training.batches import Rows, loader
from training.evaluate import measure


def test_figures_of_four_known_answers():
    # Probabilities 0.8/0.2 (right), 0.8/0.2 (wrong), 0.5/0.5-ish towards 1 (right), 0.2/0.8 (right).
    scores = torch.tensor([[math.log(4.0), 0.0], [math.log(4.0), 0.0], [0.0, 1e-3], [0.0, math.log(4.0)]])
    targets = torch.tensor([0, 1, 1, 1])
    figures = measure(nn.Identity(), loader(Rows(scores, targets), 3), 2, "test")
    assert (figures.split, figures.n) == ("test", 4)
    assert figures.accuracy == pytest.approx(3 / 4)
    assert figures.confusion.tolist() == [[1, 0], [1, 2]]
    expected = -(math.log(0.8) + math.log(0.2) + math.log(0.50025) + math.log(0.8)) / 4
    assert figures.loss == pytest.approx(expected, rel=1e-4)
    # Two bins are occupied: three answers of confidence 0.8, two of them right, and one of 0.50025, right.
    assert figures.calibration_error == pytest.approx(3 / 4 * abs(0.8 - 2 / 3) + 1 / 4 * (1 - 0.50025), abs=1e-4)


def test_metrics_carry_split_count_and_seed():
    figures = measure(nn.Identity(), loader(Rows(torch.eye(3), torch.arange(3)), 3), 3, "validation")
    for metric in figures.metrics(7):
        assert (metric.split, metric.n, metric.seed) == ("validation", 3, 7)


def test_dropout_is_off_while_measuring():
    net = nn.Sequential(nn.Dropout(0.9))
    assert measure(net.train(), loader(Rows(10 * torch.eye(3), torch.arange(3)), 3), 3, "test").accuracy == 1.0

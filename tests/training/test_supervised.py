"""The classification task: what is penalised, and what is logged."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.supervised import EpochFigures, Optimisation, Supervised, parameter_groups, sum_of_magnitudes


def net() -> nn.Module:
    layer = nn.Linear(2, 2)
    nn.init.constant_(layer.weight, -0.5)
    nn.init.constant_(layer.bias, 3.0)
    return nn.Sequential(layer, nn.BatchNorm1d(2))


def test_l1_is_the_sum_of_the_weights_magnitudes_without_biases_and_scales():
    assert sum_of_magnitudes(net()).item() == pytest.approx(4 * 0.5)


def test_weight_decay_spares_biases_and_scales():
    module = net()
    decayed, spared = parameter_groups(module, 0.1)
    assert decayed["weight_decay"] == 0.1
    assert [tuple(parameter.shape) for parameter in decayed["params"]] == [(2, 2)]
    assert spared["weight_decay"] == 0.0
    assert len(spared["params"]) == 3


@pytest.mark.parametrize(("optimisation", "extra"), [(Optimisation(), 0.0), (Optimisation(l1=0.25), 0.25 * 2.0)], ids=["none", "l1"])
def test_the_penalty_is_trained_on_but_not_logged(optimisation: Optimisation, extra: float):
    module = net()
    task = Supervised(module, 2, optimisation)
    inputs, target = torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([0, 1])
    with torch.no_grad():
        plain = nn.functional.cross_entropy(module(inputs), target)
    loss = task.training_step((inputs, target), 0)
    assert loss.item() == pytest.approx(float(plain) + extra, rel=1e-5)
    assert float(task.train_figures.finish()["train_loss"]) == pytest.approx(float(plain), rel=1e-5)


def test_augmentation_changes_training_batches_only():
    task = Supervised(nn.Identity(), 2, Optimisation(), augment=lambda inputs: -inputs)
    inputs, target = torch.tensor([[4.0, 0.0]]), torch.tensor([0])
    task.training_step((inputs, target), 0)
    task.validation_step((inputs, target), 0)
    assert float(task.train_figures.finish()["train_accuracy"]) == 0.0
    assert float(task.validation_figures.finish()["validation_accuracy"]) == 1.0


def test_label_smoothing_is_torchs_own():
    task = Supervised(nn.Identity(), 2, Optimisation(label_smoothing=0.2))
    inputs, target = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    expected = nn.functional.cross_entropy(inputs, target, label_smoothing=0.2)
    assert task.training_step((inputs, target), 0).item() == pytest.approx(float(expected))


def test_figures_weigh_batches_by_their_rows():
    figures = EpochFigures("train", 2)
    figures.update(torch.tensor([[1.0, 0.0]] * 3), torch.tensor([0, 0, 1]), torch.tensor(1.0))
    figures.update(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), torch.tensor(5.0))
    assert {name: float(value) for name, value in figures.finish().items()} == {"train_loss": 2.0, "train_accuracy": 0.75}

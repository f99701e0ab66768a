"""The two table networks, against the same sums written out."""

from __future__ import annotations

import torch

from training.networks.wine import MultiLayerPerceptron, Perceptron, column_statistics

MEAN, STD = torch.tensor([1.0, 10.0]), torch.tensor([2.0, 5.0])


def test_the_perceptron_is_a_weighted_sum_of_standardised_columns():
    net = Perceptron(MEAN, STD, 3)
    row = torch.tensor([[5.0, 0.0]])
    expected = net.classes.weight @ torch.tensor([2.0, -2.0]) + net.classes.bias
    torch.testing.assert_close(net(row)[0], expected)


def test_the_average_row_gives_the_bias():
    net = Perceptron(MEAN, STD, 3)
    torch.testing.assert_close(net(MEAN[None])[0], net.classes.bias)


def test_depth_counts_hidden_layers():
    for depth in (0, 1, 4):
        net = MultiLayerPerceptron(MEAN, STD, 3, depth=depth, width=6, dropout=0.5)
        assert sum(isinstance(module, torch.nn.ReLU) for module in net.modules()) == depth
        assert net(torch.zeros(5, 2)).shape == (5, 3)


def test_two_layers_written_out():
    net = MultiLayerPerceptron(MEAN, STD, 3, depth=1, width=4, dropout=0.5).eval()
    row = torch.tensor([[3.0, 5.0]])
    first = net.hidden[0]
    hidden = torch.relu(first.weight @ torch.tensor([1.0, -1.0]) + first.bias)
    torch.testing.assert_close(net(row)[0], net.classes.weight @ hidden + net.classes.bias)


def test_column_statistics_are_the_samples():
    mean, std = column_statistics(torch.tensor([[1.0, 0.0], [3.0, 4.0]]))
    assert mean.tolist() == [2.0, 2.0]
    torch.testing.assert_close(std, torch.tensor([2.0, 8.0]).sqrt())

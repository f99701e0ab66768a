"""The digit network: cheap enough for the server, and plain enough for every explanation method."""

from __future__ import annotations

import torch
from torch import nn

from training.bundle import multiply_adds
from training.networks.mnist_cnn import FEATURES, MnistCnn


def test_one_image_costs_under_a_million_multiply_adds():
    # Outputs times weights that each sums over: five convolutions, two linear layers.
    convolutions = 196 * 12 * 25 + 196 * 16 * 108 + 49 * 32 * 144 + 25 * 32 * 288 + 9 * 44 * 288
    expected = convolutions + 396 * 64 + 64 * 10
    assert multiply_adds(MnistCnn(), torch.zeros(1, 1, 28, 28)) == expected < 1_000_000


def test_logits_are_a_linear_map_of_the_features():
    net = MnistCnn().eval()
    images = torch.rand(3, 1, 28, 28) * 255
    features = net.features(images)
    assert features.shape == (3, FEATURES)
    torch.testing.assert_close(net(images), net.classes(features))


def test_every_activation_is_a_relu_module_of_its_own():
    relus = [module for module in MnistCnn().modules() if type(module) is nn.ReLU]
    assert len(relus) == len({id(relu) for relu in relus}) == 6


def test_a_black_image_reaches_the_first_convolution_as_zeros():
    net = MnistCnn().eval()
    seen = []
    net.conv1.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    net(torch.zeros(1, 1, 28, 28))
    assert not seen[0].any()

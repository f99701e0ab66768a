"""Gradients by blocks are torch's own."""

from __future__ import annotations

import onnx
import pytest
import torch
from torch import nn

from service.explain.twin import build, fold
from service.explain.twin.narrow import Narrow, is_narrow

CASES = [
    (nn.Conv2d(3, 64, 7, 2, 3), (224, 224)),
    (nn.Conv2d(1, 12, 5, 2, 2), (28, 28)),
    (nn.Conv2d(1, 12, 5, 2, 2), (27, 30)),
    (nn.Conv2d(3, 5, 3, 1, 1), (9, 13)),
    (nn.Conv2d(3, 5, 3, 1, 0), (9, 13)),
    (nn.Conv2d(3, 8, 4, 4), (32, 35)),
    (nn.Conv2d(3, 8, 16, 16), (48, 48)),
    (nn.Conv2d(1, 4, 1, 2), (8, 9)),
    (nn.Conv2d(2, 4, (3, 1), (1, 3), (2, 0)), (7, 10)),
    (nn.Conv2d(3, 4, 3, 2, (0, 3)), (11, 6)),
    (nn.Conv2d(1, 4, 2, 5), (17, 23)),
    (nn.Conv2d(1, 2, 3, 1, 4), (1, 1)),
    (nn.Conv1d(1, 8, 80, 16, 38), (400,)),
    (nn.Conv1d(1, 8, 9, 1, 4), (50,)),
    (nn.Conv1d(2, 3, 10, 5), (61,)),
    (nn.Conv3d(1, 4, 3, (1, 2, 2), (1, 1, 0)), (4, 9, 8)),
]


@pytest.mark.parametrize(("convolution", "sizes"), CASES, ids=[f"{c.kernel_size}/{c.stride}+{c.padding}@{s}" for c, s in CASES])
def test_output_and_gradient_are_torchs(convolution, sizes) -> None:
    convolution = convolution.double().requires_grad_(False)
    x = torch.randn(2, convolution.in_channels, *sizes, dtype=torch.float64, requires_grad=True)
    wanted = convolution(x)
    upstream = torch.randn_like(wanted)
    (gradient,) = torch.autograd.grad(wanted, x, upstream)
    narrow = Narrow(convolution)
    got = narrow(x)
    (found,) = torch.autograd.grad(got, x, upstream)
    assert torch.equal(got, wanted)
    assert found.shape == x.shape
    torch.testing.assert_close(found, gradient, rtol=1e-11, atol=1e-11)


def test_second_derivatives_pass() -> None:
    """By finite differences."""
    narrow = Narrow(nn.Conv2d(1, 2, 3, 2, 1).double().requires_grad_(False))
    x = torch.randn(1, 1, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(narrow, (x,))
    assert torch.autograd.gradgradcheck(lambda t: narrow(t) ** 2, (x,))


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(12, 4, 3),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(3, 4, 3, dilation=2),
        nn.Conv2d(3, 4, 3, padding="same"),
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
        nn.ConvTranspose2d(3, 4, 3),
        nn.Linear(3, 4),
    ],
    ids=repr,
)
def test_others_stay_as_they_are(module) -> None:
    assert not is_narrow(module)


def test_first_convolution_of_a_folded_twin_is_narrow() -> None:
    twin = fold(build(onnx.load("models/mnist-cnn/1/model.onnx")))
    assert [m.convolution.in_channels for m in twin.modules() if isinstance(m, Narrow)] == [1]

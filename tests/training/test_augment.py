"""Distortions: none where all are switched off, as large as said where one is on."""

from __future__ import annotations

import torch

from training.augment import RandomAffine
from training.datasets import Mnist

STILL = {"degrees": 0.0, "shift": 0.0, "scale": 0.0, "stretch": 0.0, "shear": 0.0}


def test_without_distortion_images_stay_as_they_are(digits: Mnist):
    images = torch.from_numpy(digits.train.pixels[:20]).float().unsqueeze(1)
    torch.testing.assert_close(RandomAffine(**STILL)(images), images, rtol=0, atol=1e-2)


def test_shifts_reach_but_never_pass_their_limit():
    torch.manual_seed(0)
    dot = torch.zeros(400, 1, 29, 29)
    dot[:, :, 14, 14] = 1
    shifted = RandomAffine(**{**STILL, "shift": 3.0})(dot)[:, 0]  # (N, 29, 29)
    places = torch.arange(29.0)
    for axis in (1, 2):
        mean = (shifted.sum(3 - axis) * places).sum(1) / shifted.sum((1, 2))  # (N,), where the dot went along this axis
        offsets = (mean - 14).abs()
        assert offsets.max() <= 3 + 1e-3
        assert offsets.max() > 2.8


def test_a_turn_keeps_the_distance_from_the_centre():
    torch.manual_seed(0)
    dot = torch.zeros(200, 1, 41, 41)
    dot[:, :, 20, 32] = 1
    turned = RandomAffine(**{**STILL, "degrees": 30.0})(dot)[:, 0]
    places = torch.arange(41.0) - 20
    down = (turned.sum(2) * places).sum(1) / turned.sum((1, 2))
    across = (turned.sum(1) * places).sum(1) / turned.sum((1, 2))
    angles = torch.rad2deg(torch.atan2(down, across))
    torch.testing.assert_close(torch.hypot(down, across), torch.full((200,), 12.0), rtol=0.03, atol=0)
    assert 28 < angles.abs().max() < 32
    assert angles.min() < -25 < 25 < angles.max()


def test_each_image_gets_its_own_draw():
    torch.manual_seed(0)
    images = torch.rand(1, 1, 28, 28).expand(2, 1, 28, 28)
    first, second = RandomAffine(degrees=10, shift=2, scale=0.1, stretch=0.1, shear=0.1)(images)
    assert not torch.allclose(first, second)

"""Distortions: none where all are switched off, as large as said where one is on."""

from __future__ import annotations

import torch

from training.augment import RandomAffine, RandomSound
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


def click(place: int, samples: int = 2000, length: int = 400) -> torch.Tensor:
    """A sound of `length` samples with a triangle of 41 samples at `place`, (1, samples)."""
    sound = torch.zeros(1, samples)
    sound[0, :length] = 1e-6
    sound[0, place - 20 : place + 21] = 1 - (torch.arange(41) - 20).abs() / 21
    return sound


def test_an_undistorted_sound_is_only_moved():
    torch.manual_seed(0)
    moved = RandomSound(speed=0.0, gain=0.0, noise=0.0)(click(200).expand(300, -1))
    centres = (moved * torch.arange(2000.0)).sum(1) / moved.sum(1)
    torch.testing.assert_close(moved.sum(1), click(200).sum(1).expand(300), rtol=1e-3, atol=0)
    assert 195 < centres.min() < 260  # never before its own start
    assert 1740 < centres.max() < 1805  # never cut at the end: 200 samples follow


def test_speed_and_gain_reach_their_limits_and_never_pass_them():
    torch.manual_seed(0)
    played = RandomSound(speed=0.2, gain=6.0, noise=0.0)(click(200).expand(1000, -1))
    peaks = 20 * torch.log10(played.amax(1))
    assert -6.3 < peaks.min() < -5.5
    assert 5.5 < peaks.max() < 6.05
    widths = (played > played.amax(1, keepdim=True) * 0.5).float().sum(1)  # 21 samples at the original speed
    assert 21 * 0.78 - 1 <= widths.min() < 21 * 0.86
    assert 21 * 1.15 < widths.max() <= 21 * 1.25 + 1


def test_noise_is_as_loud_as_said_at_most():
    torch.manual_seed(0)
    noisy = RandomSound(speed=0.0, gain=0.0, noise=0.1)(torch.zeros(200, 4000))
    deviations = noisy.std(1)
    assert 0.09 < deviations.max() < 0.105
    assert deviations.min() < 0.01

"""The spoken-digit network: its spectrogram is numpy's, silence is nothing, and gradients reach the samples."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from training.bundle import multiply_adds, parameter_count
from training.networks.fsdd_cnn import BANDS, HOP, RATE, SAMPLES, WINDOW, FsddCnn, fourier_kernels, mel_bands


def test_the_kernels_give_numpys_spectrum_of_each_frame():
    sound = np.random.default_rng(0).uniform(-1, 1, SAMPLES)
    waves = nn.functional.conv1d(torch.from_numpy(sound)[None, None], torch.from_numpy(fourier_kernels(WINDOW)).double(), stride=HOP)[0]
    half = WINDOW // 2 + 1
    power = (waves[:half] ** 2 + waves[half:] ** 2).numpy()  # (101, 98)
    hann = np.hanning(WINDOW + 1)[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP]
    reference = np.abs(np.fft.rfft(frames * hann)).T ** 2 * (2 / hann.sum()) ** 2
    np.testing.assert_allclose(power, reference, rtol=1e-4, atol=1e-9)


def test_a_full_scale_sine_has_power_one():
    sine = np.sin(2 * np.pi * 1000 * np.arange(WINDOW) / RATE)
    waves = fourier_kernels(WINDOW)[:, 0] @ sine
    middle = 1000 * WINDOW // RATE
    assert np.isclose(waves[middle] ** 2 + waves[WINDOW // 2 + 1 + middle] ** 2, 1, atol=1e-4)


def test_mel_bands_average_and_rise_in_frequency():
    bands = mel_bands(BANDS, WINDOW, RATE)
    np.testing.assert_allclose(bands.sum(1), 1, rtol=1e-6)
    assert (bands >= 0).all()
    assert np.all(np.diff(bands @ np.fft.rfftfreq(WINDOW, 1 / RATE)) > 0)


def test_silence_is_zero_in_every_band():
    assert not FsddCnn().spectrogram(torch.zeros(1, SAMPLES)).any()


def test_gradients_reach_every_sample_of_a_frame():
    sound = torch.randn(1, SAMPLES, requires_grad=True)
    FsddCnn().eval()(sound)[0, 3].backward()
    heard = HOP * ((SAMPLES - WINDOW) // HOP) + WINDOW
    assert sound.grad is not None
    assert (sound.grad[0, 1:heard] != 0).float().mean() > 0.99  # the window's first sample has weight 0


def test_it_is_small_and_its_spectrogram_is_not_trained():
    net = FsddCnn()
    # 16*9 + 32*16*9 + 48*32*9 + 64*48*15 kernels, 2*(16+32+48+64) scales and shifts, 64*10 + 10
    assert parameter_count(net) == 144 + 4608 + 13_824 + 46_080 + 320 + 650
    assert multiply_adds(net, torch.zeros(1, SAMPLES)) < 8_000_000
    relus = [module for module in net.modules() if type(module) is nn.ReLU]
    assert len({id(relu) for relu in relus}) == 4

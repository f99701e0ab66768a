"""Short-time spectra against scipy's own, the closed form of a tone, and their exact inverse."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from service.codecs.spectrogram import Frames, decibels

FRAMES = Frames.of_rate(8000)


def test_frames_are_about_32_milliseconds_with_three_quarters_of_overlap():
    assert (FRAMES.window, FRAMES.hop) == (256, 64)
    assert (Frames.of_rate(16_000).window, Frames.of_rate(44_100).window) == (512, 1024)


@pytest.mark.parametrize("length", [300, 8000, 8001, 8063])
def test_spectra_are_scipys(length: int):
    samples = np.random.default_rng(length).standard_normal(length)
    spectra = FRAMES.transform(samples)
    reference = ShortTimeFFT(hann(256, sym=False), 64, 8000).stft(samples, p0=0, p1=FRAMES.count(length))
    np.testing.assert_allclose(np.abs(spectra), np.abs(reference), atol=1e-10)  # scipy counts phases from another sample


@pytest.mark.parametrize("length", [1, 63, 64, 65, 300, 8000])
@pytest.mark.parametrize("frames", [FRAMES, Frames(64, 32, 8000)])
def test_the_inverse_gives_the_samples_back(length: int, frames: Frames):
    samples = np.random.default_rng(length).standard_normal((2, length))
    np.testing.assert_allclose(frames.inverse(frames.transform(samples), length), samples, atol=1e-12)


def test_masking_one_of_two_tones_leaves_the_other():
    time = np.arange(8000) / 8000
    low, high = np.sin(2 * np.pi * 500 * time), np.sin(2 * np.pi * 2500 * time)
    spectra = FRAMES.transform(low + high)
    spectra[FRAMES.frequencies > 1500] = 0
    left = FRAMES.inverse(spectra, 8000)
    np.testing.assert_allclose(left[400:-400], low[400:-400], atol=1e-4)


def test_a_tone_stands_at_its_frequency_and_its_time():
    samples = np.zeros(8000)
    samples[4000:6000] = np.sin(2 * np.pi * 1000 * np.arange(2000) / 8000)
    levels = decibels(FRAMES.transform(samples))  # (frequencies, frames)
    row, column = np.unravel_index(levels.argmax(), levels.shape)
    assert FRAMES.frequencies[row] == 1000
    assert 0.5 <= FRAMES.times(8000)[column] <= 0.75
    assert levels.max() == 0
    assert (levels[:, FRAMES.times(8000) < 0.48] == -70).all()


def test_silence_has_no_strongest_level():
    assert (decibels(FRAMES.transform(np.zeros(1000))) == -70).all()


@pytest.mark.parametrize(("window", "hop"), [(255, 64), (256, 0), (256, 129)])
def test_frames_that_leave_samples_uncovered_are_refused(window: int, hop: int):
    with pytest.raises(ValueError, match="two hops"):
        Frames(window, hop, 8000)

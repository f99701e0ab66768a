"""A sound's attributions by time and frequency: the sum kept, a linear model told exactly, patches as they are."""

from __future__ import annotations

import numpy as np
import pytest

from service.codecs.spectrogram import Frames
from service.explain.render.time_frequency import TimeFrequency, is_product

RATE = 8000
DRAW = np.random.default_rng(0)


@pytest.mark.parametrize("length", [1, 100, 8000, 8001])
def test_the_sum_is_kept_also_where_samples_are_zero(length: int):
    samples = DRAW.normal(size=length)
    samples[::7] = 0
    attributions = samples * DRAW.normal(size=length)
    found = TimeFrequency.of_products(samples, attributions, RATE)
    assert found.values.sum() == pytest.approx(attributions.sum())
    assert found.seconds[[0, -1]].tolist() == pytest.approx([0, length / RATE])
    assert found.hertz[[0, -1]].tolist() == [0, 4000]


def test_a_bins_attribution_is_the_bin_times_its_own_slope():
    """By the definition: F(spectra) = <slopes, inverse(spectra)>, each bin's slope by a difference quotient."""
    samples, slopes = DRAW.normal(size=1000), DRAW.normal(size=1000)
    frames = Frames.of_rate(RATE)
    spectra = frames.transform(samples)
    found = TimeFrequency.of_products(samples, samples * slopes, RATE)
    for row, column in ((0, 0), (5, 3), (40, 8), (100, 15), (128, 7), (128, 16)):
        expected = 0.0
        for direction in (1.0, 1.0j):
            bumped = np.zeros_like(spectra)
            bumped[row, column] = direction
            slope = slopes @ frames.inverse(bumped, 1000)  # the map is linear: no limit is needed
            part = spectra[row, column].real if direction == 1.0 else spectra[row, column].imag
            expected += part * slope
        assert found.values[row, column] == pytest.approx(expected, abs=1e-9)


def test_a_model_that_hears_one_tone_is_told_from_the_other():
    time = np.arange(8000) / RATE
    heard, unheard = np.sin(2 * np.pi * 500 * time), np.sin(2 * np.pi * 2500 * time)
    samples = heard + unheard
    found = TimeFrequency.of_products(samples, samples * heard, RATE)  # F(x) = <heard, x>
    by_band = found.values.sum(1)
    assert by_band[:40].sum() == pytest.approx(4000, rel=1e-3)  # <heard, heard>
    assert abs(by_band[40:].sum()) < 4


def test_patches_are_blocks():
    field = {"seconds": [0.0, 0.25, 1.0], "hertz": [0.0, 1000.0, 4000.0], "values": [[1.0, 2.0], [3.0, 4.0]]}
    found = TimeFrequency.of_field(field)
    assert found.at(np.array([0.0, 0.2, 0.25, 0.99]), np.array([0.0, 999.0, 1000.0, 4000.0])).tolist() == [
        [1, 1, 2, 2],
        [1, 1, 2, 2],
        [3, 3, 4, 4],
        [3, 3, 4, 4],
    ]


@pytest.mark.parametrize(
    ("method", "baseline", "expected"),
    [
        ("integrated_gradients", "zero", True),
        ("integrated_gradients", {"sound": "zero"}, True),
        ("integrated_gradients", {"kind": "zero"}, True),
        ("integrated_gradients", 0.0, True),
        ("integrated_gradients", 0.5, False),
        ("integrated_gradients", "mean", False),
        ("integrated_gradients", [0.0, 0.0], False),
        ("integrated_gradients", {"sound": [0.0, 0.1]}, False),
        ("input_x_gradient", None, True),
        ("deep_lift", "zero", True),
        ("saliency", None, False),
        ("occlusion", "zero", False),
        ("lrp", None, False),
    ],
)
def test_only_products_with_silence_as_their_baseline_are_told_by_frequency(method: str, baseline: object, expected: bool):
    assert is_product({"method": method, "parameters": {"baseline": baseline}}, "sound") is expected

"""A sound drawn: its tone where it is in time and frequency, its attributions at their time, their sums kept."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from service.explain.render.colormap import UNSIGNED
from service.explain.render.layer import Layer
from service.explain.render.sound import draw_sound, time_sums
from service.explain.render.time_frequency import TimeFrequency

RATE = 8000
TONE = np.zeros(RATE)
TONE[4000:6000] = np.sin(2 * np.pi * 1000 * np.arange(2000) / RATE)
LEFT, WIDTH, HEIGHT = 52, 640, 200


def pixels_of(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def test_the_spectrogram_is_dark_at_the_tones_time_and_frequency():
    drawn = pixels_of(draw_sound(TONE, RATE, []))[:HEIGHT, LEFT : LEFT + WIDTH].sum(axis=2)
    y, x = np.unravel_index(drawn[2:-2, 2:-2].argmin(), (HEIGHT - 4, WIDTH - 4))
    assert (HEIGHT - y) / HEIGHT * 4000 == pytest.approx(1000, abs=60)
    assert 0.49 < x / WIDTH < 0.76
    assert (drawn[2:-2, 2 : round(0.46 * WIDTH)] > 700).all()  # silence is white


def test_bars_stand_at_their_time_up_for_and_down_against():
    attributions = np.zeros(RATE)
    attributions[1600:1680], attributions[6400:6480] = 1.0, -1.0  # at 0.2 s and at 0.8 s
    strip = pixels_of(draw_sound(TONE, RATE, [Layer(attributions)]))[HEIGHT + 6 : HEIGHT + 6 + 72]
    orange = np.argwhere(strip[..., 0] > strip[..., 2] + 80)  # (y, x) each
    blue = np.argwhere(strip[..., 2] > strip[..., 0] + 80)
    assert (orange[:, 1].mean() - LEFT) / WIDTH == pytest.approx(0.205, abs=0.005)
    assert (blue[:, 1].mean() - LEFT) / WIDTH == pytest.approx(0.805, abs=0.005)
    assert orange[:, 0].max() <= 36 <= blue[:, 0].min()


def test_magnitudes_stand_on_the_ground():
    strip = pixels_of(draw_sound(TONE, RATE, [Layer(np.ones(RATE), UNSIGNED)]))[HEIGHT + 6 : HEIGHT + 6 + 72]
    purple = np.argwhere(np.minimum(strip[..., 0], strip[..., 2]) > strip[..., 1] + 30)
    assert (purple[:, 0].min(), purple[:, 0].max()) == (4, 69)  # the ground line is row 70


@pytest.mark.parametrize(("length", "rate"), [(8000, 8000), (8001, 8000), (50, 8000), (48_000 * 30, 48_000), (1, 8000)])
def test_what_the_bars_show_adds_up_to_the_attributions(length: int, rate: int):
    attributions = np.random.default_rng(0).normal(size=length)
    sums, span = time_sums(attributions, rate)
    assert sums.sum() == pytest.approx(attributions.sum())
    assert len(sums) <= 700
    assert len(sums) * span >= length / rate > (len(sums) - 1) * span


def test_several_methods_share_the_spectrogram_and_the_time():
    layers = [Layer(TONE, method="integrated_gradients"), Layer(np.abs(TONE), UNSIGNED, "saliency")]
    alone, together = draw_sound(TONE, RATE, [Layer(TONE)]), draw_sound(TONE, RATE, layers)
    assert alone.width == together.width
    assert together.height == alone.height + 2 * 20 + (72 + 6) + (20 + 6)  # titles, the second strip, its legend


def test_a_map_shows_the_patch_that_spoke_and_the_pale_sound_elsewhere():
    field = {"seconds": [0.0, 0.5, 0.75, 1.0], "hertz": [0.0, 2000.0, 4000.0], "values": [[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]}
    layers, maps = [Layer(TONE)], [TimeFrequency.of_field(field)]
    drawn = draw_sound(TONE, RATE, layers, maps=maps)
    assert drawn.height == draw_sound(TONE, RATE, layers).height + HEIGHT + 6
    panel = pixels_of(drawn)[HEIGHT + 6 : 2 * HEIGHT + 6, LEFT : LEFT + WIDTH]
    orange = panel[..., 0] > panel[..., 2] + 80
    blue = panel[..., 2] > panel[..., 0] + 80
    assert orange[102:198, 322:478].all()  # low frequencies, from 0.5 to 0.75 s
    assert blue[2:98, 2:318].all()  # high ones before
    assert not orange[:, :318].any()
    assert not orange[:98].any()
    assert not blue[102:].any()
    assert np.ptp(panel[102:198, 2:318], axis=2).max() == 0


def test_padding_behind_the_sound_is_shaded():
    whole, padded = (pixels_of(draw_sound(TONE, RATE, [Layer(TONE)], heard=heard)) for heard in (None, 6400))
    changed = np.argwhere((whole != padded).any(axis=(0, 2))).ravel()
    assert changed.min() == pytest.approx(LEFT + 0.8 * WIDTH, abs=1)


@pytest.mark.parametrize("samples", [np.zeros(8000), np.ones(1), np.full(300, -0.5)])
def test_silence_and_a_click_are_drawn_too(samples: np.ndarray):
    assert draw_sound(samples, RATE, [Layer(np.zeros(len(samples)))], "7").width > WIDTH

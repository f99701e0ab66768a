"""The colour scale: symmetric, neutral at zero, readable without hue."""

from __future__ import annotations

import numpy as np
import pytest

from service.explain.render.colormap import SIGNED, UNSIGNED, hex_of, ink_on, strengths, symmetric_scale


def lightness(rgb):
    return np.asarray(rgb, float) @ [0.299, 0.587, 0.114]


def test_zero_is_neutral_and_the_ends_differ_in_hue():
    low, zero, high = SIGNED.colours(np.array([-1.0, 0.0, 1.0])).tolist()
    assert len(set(zero)) == 1
    assert low[2] > low[0]
    assert high[0] > high[2]


def test_strength_reads_without_hue_and_alike_on_both_sides():
    steps = np.linspace(0, 1, 21)
    for side in (-1, 1):
        assert np.all(np.diff(lightness(SIGNED.colours(side * steps))) < 0)
    assert np.abs(lightness(SIGNED.colours(steps)) - lightness(SIGNED.colours(-steps))).max() < 8


def test_beyond_the_ends_nothing_changes():
    np.testing.assert_array_equal(SIGNED.colours(np.array([-5.0, 7.0])), SIGNED.colours(np.array([-1.0, 1.0])))


def test_the_scale_ignores_one_stray_value():
    values = np.ones(1000)
    values[0] = 1e6
    assert symmetric_scale(values) == pytest.approx(1.0)
    sparse = np.zeros(1000)
    sparse[3] = -2.0
    assert symmetric_scale(sparse) == 2.0
    assert symmetric_scale(np.zeros(4)) == symmetric_scale(np.array([])) == 1.0
    assert symmetric_scale(np.array([np.nan, 0.0])) == 1.0


def test_strengths_keep_signs_and_clip():
    assert strengths(np.array([-4.0, -1.0, 0.0, np.nan, 9.0]), 2.0).tolist() == [-1.0, -0.5, 0.0, 0.0, 1.0]


def test_ink():
    assert ink_on((247, 247, 247)) == (0, 0, 0)
    assert ink_on((12, 44, 98)) == (255, 255, 255)
    assert hex_of((0, 128, 255)) == "#0080ff"


def test_magnitudes_have_a_hue_of_their_own_and_no_sign():
    steps = UNSIGNED.colours(np.linspace(0, 1, 21))
    assert np.all(np.diff(lightness(steps)) < 0)
    assert len(set(UNSIGNED.colour_of(0.0))) == 1
    red, green, blue = UNSIGNED.colour_of(0.7)
    assert min(red, blue) > green + 40  # purple: neither the blue of against nor the orange of for


def test_the_ends_say_what_they_are_for_and_against():
    assert SIGNED.ends() == ("against", "for")
    assert SIGNED.ends("7") == ("against 7", "for 7")
    assert UNSIGNED.ends("7") == ("no influence", "strong")
    assert all(len(words) < 35 for words in SIGNED.ends("x" * 500))

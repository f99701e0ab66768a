"""Overlays and figures: sizes by the contract, colours where the attributions are."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from service.codecs.geometry import Geometry
from service.explain.render.image import Caption, panel_size, render_figure, render_grid, render_legend, render_overlay, render_panels


def whole(size, frame=None):
    frame = frame or size
    return Geometry(size, frame, (0.0, 0.0, float(size[0]), float(size[1])), frame, "bilinear")


def grey(size, value=128):
    return Image.new("RGB", size, (value, value, value))


@pytest.mark.parametrize("size", [(28, 28), (300, 200), (31, 57)])
def test_the_overlay_has_exactly_the_sent_size(size):
    attributions = np.random.default_rng(0).normal(size=(28, 28, 3))
    overlay = render_overlay(grey(size), attributions, whole(size, (28, 28)))
    assert (overlay.size, overlay.mode) == (size, "RGB")
    assert render_overlay(grey(size), attributions, whole(size, (28, 28)), scale=3).size == (3 * size[0], 3 * size[1])


def test_orange_for_blue_against_grey_for_nothing():
    attributions = np.zeros((10, 10, 1))
    attributions[:, :3], attributions[:, 7:] = 1.0, -1.0
    pixels = np.asarray(render_overlay(Image.new("RGB", (10, 10), (200, 30, 90)), attributions, whole((10, 10)))).astype(int)
    assert pixels[5, 0, 0] > pixels[5, 0, 2] + 80
    assert pixels[5, 9, 2] > pixels[5, 9, 0] + 80
    assert np.ptp(pixels[5, 5]) == 0


def test_channels_are_summed():
    attributions = np.zeros((10, 10, 2))
    attributions[..., 0], attributions[..., 1] = 1.0, -1.0
    pixels = np.asarray(render_overlay(grey((10, 10)), attributions, whole((10, 10)))).astype(int)
    assert np.ptp(pixels, axis=2).max() == 0


def test_the_overlay_stands_upright_on_a_turned_photo():
    """Sent 60 x 40 to be turned by 90 degrees: the model's top row is the upright picture's top."""
    geometry = Geometry((60, 40), (8, 12), (0.0, 0.0, 60.0, 40.0), (8, 12), "bilinear", orientation=6)
    attributions = np.zeros((12, 8, 1))
    attributions[0] = 1.0
    pixels = np.asarray(render_overlay(grey((40, 60)), attributions, geometry)).astype(int)
    assert pixels.shape == (60, 40, 3)
    assert (pixels[1, :, 0] > pixels[1, :, 2] + 50).all()
    assert np.ptp(pixels[30:], axis=2).max() <= 2


def test_small_pictures_are_enlarged_by_a_whole_factor_and_large_ones_shown_smaller():
    assert panel_size((28, 28)) == (224, 224)
    assert panel_size((100, 60)) == (300, 180)
    assert panel_size((224, 300)) == (224, 300)
    assert panel_size((6000, 4000)) == (640, 427)
    shown, drawn = render_panels(grey((28, 28)), np.ones((28, 28, 1)), whole((28, 28)))
    assert shown.size == drawn.size == (224, 224)


def test_a_figure_holds_both_panels_a_caption_and_the_legend():
    sent = Image.fromarray(np.random.default_rng(0).integers(0, 255, (28, 28, 3)).astype(np.uint8))
    figure = render_figure(sent, np.ones((28, 28, 1)), whole((28, 28)), Caption("7 (99.8 %)" * 40, ("integrated gradients", "x")))
    enlarged = np.asarray(sent.resize((224, 224), Image.Resampling.NEAREST))
    pixels = np.asarray(figure)
    tops = [y for y in range(figure.height - 224) if np.array_equal(pixels[y : y + 224, 12:236], enlarged)]
    assert len(tops) == 1
    legend = np.asarray(render_legend())
    assert np.array_equal(pixels[tops[0] + 234 : tops[0] + 254, 12 : 12 + legend.shape[1]], legend)
    assert (pixels[: tops[0]] < 128).any()  # the caption's ink


def test_a_grid_keeps_every_figure_whole():
    figures = [Image.new("RGB", (10 * (i + 1), 8), (i, i, i)) for i in range(3)]
    sheet = np.asarray(render_grid(figures, 2))
    assert sheet.shape == (8 + 12 + 8, 30 + 12 + 30, 3)
    assert (sheet[:8, :10] == 0).all()
    assert (sheet[:8, 42:62] == 1).all()
    assert (sheet[20:28, :30] == 2).all()
    assert render_grid(figures[:1]).size == (10, 8)

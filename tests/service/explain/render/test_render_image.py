"""Overlays and figures: sizes by the contract, colours where the attributions are."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from service.codecs.geometry import Geometry
from service.explain.render.colormap import UNSIGNED
from service.explain.render.image import draw_overlays, overlay_panels, panel_size, render_legend, render_overlay
from service.explain.render.layer import Layer
from service.explain.render.sheet import Caption, below, render_grid, titled


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
    assert render_overlay(grey(size), attributions, whole(size, (28, 28)), zoom=3).size == (3 * size[0], 3 * size[1])


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
    panels = overlay_panels(grey((28, 28)), [Layer(np.ones((28, 28, 1)))], whole((28, 28)))
    assert [panel.size for _, panel in panels] == [(224, 224)] * 2


def test_a_figure_holds_both_panels_a_caption_and_the_legend():
    sent = Image.fromarray(np.random.default_rng(0).integers(0, 255, (28, 28, 3)).astype(np.uint8))
    body = draw_overlays(sent, [Layer(np.ones((28, 28, 1)))], whole((28, 28)), "7")
    figure = titled(body, Caption("7 (99.8 %)" * 40, ("integrated gradients", "x")))
    enlarged = np.asarray(sent.resize((224, 224), Image.Resampling.NEAREST))
    pixels = np.asarray(figure)
    tops = [y for y in range(figure.height - 224) if np.array_equal(pixels[y : y + 224, 12:236], enlarged)]
    assert len(tops) == 1
    legend = np.asarray(render_legend(target="7"))
    assert np.array_equal(pixels[tops[0] + 234 : tops[0] + 254, 12 : 12 + legend.shape[1]], legend)
    assert (pixels[: tops[0]] < 128).any()  # the caption's ink


def test_magnitudes_are_purple():
    attributions = np.zeros((10, 10, 1))
    attributions[:, :3] = 1.0
    pixels = np.asarray(render_overlay(grey((10, 10)), attributions, whole((10, 10)), UNSIGNED)).astype(int)
    red, green, blue = pixels[5, 0]
    assert min(red, blue) > green + 40
    assert np.ptp(pixels[5, 9]) == 0


def test_several_methods_stand_side_by_side_titled_with_a_legend_a_scale():
    ones = np.ones((28, 28, 1))
    layers = [Layer(ones, method="integrated_gradients"), Layer(ones, UNSIGNED, "saliency"), Layer(-ones, method="occlusion")]
    geometry = whole((28, 28))
    assert [title for title, _ in overlay_panels(grey((28, 28)), layers, geometry)] == [
        "sent",
        "integrated gradients",
        "saliency",
        "occlusion",
    ]
    alone, together = draw_overlays(grey((28, 28)), layers[:1], geometry), draw_overlays(grey((28, 28)), layers, geometry)
    assert together.width == 4 * 224 + 3 * 12
    assert together.height == alone.height + 20 + 30  # the titles, the second legend


def test_blocks_of_a_perturbation_method_keep_their_edges():
    """Occlusion windows of 7 pixels on a picture of the model's own size: one colour a block."""
    blocks = np.kron(np.array([[1.0, -1.0], [0.0, 1.0]]), np.ones((14, 14)))[..., None]
    pixels = np.asarray(render_overlay(grey((28, 28)), blocks, whole((28, 28)))).reshape(2, 14, 2, 14, 3)
    assert (pixels == pixels[:, :1, :, :1]).all()


def test_pictures_below_each_other():
    sheet = np.asarray(below([Image.new("RGB", (4, 3), (1, 1, 1)), Image.new("RGB", (6, 2), (2, 2, 2))], gap=5))
    assert sheet.shape == (10, 6, 3)
    assert (sheet[:3, :4] == 1).all()
    assert (sheet[8:] == 2).all()


def test_a_grid_keeps_every_figure_whole():
    figures = [Image.new("RGB", (10 * (i + 1), 8), (i, i, i)) for i in range(3)]
    sheet = np.asarray(render_grid(figures, 2))
    assert sheet.shape == (8 + 12 + 8, 30 + 12 + 30, 3)
    assert (sheet[:8, :10] == 0).all()
    assert (sheet[:8, 42:62] == 1).all()
    assert (sheet[20:28, :30] == 2).all()
    assert render_grid(figures[:1]).size == (10, 8)

"""The way back from the model's frame: Pillow's own resize judges the matrices, inner products and sums judge the adjoint."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from service.codecs.geometry import Geometry, adjoint, margin_sum, resampling_matrix, turn, unturn, upsample

FILTERS = ["nearest", "box", "bilinear", "bicubic", "lanczos"]
rng = np.random.default_rng(0)


def pillow_resize(picture, size, name, box):
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling[name.upper()], box=box))


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize(
    ("sent", "resized", "box"),
    [
        ((37, 53), (28, 28), (0, 0, 37, 53)),
        ((20, 11), (28, 28), (0, 0, 20, 11)),
        ((28, 28), (28, 28), (0, 0, 28, 28)),
        ((300, 200), (7, 5), (0, 0, 300, 200)),
        ((41, 30), (16, 16), (5.5, 0, 35.5, 30)),
        ((1, 1), (4, 3), (0, 0, 1, 1)),
        ((9, 8), (1, 1), (0, 0, 9, 8)),
    ],
)
def test_matrices_are_pillows_resize(name, sent, resized, box):
    picture = rng.normal(size=(sent[1], sent[0])).astype(np.float32)
    columns = resampling_matrix(sent[0], resized[0], box[0], box[2], name)
    rows = resampling_matrix(sent[1], resized[1], box[1], box[3], name)
    np.testing.assert_allclose(rows @ picture @ columns.T, pillow_resize(picture, resized, name, box), atol=2e-6)
    np.testing.assert_allclose(columns.sum(axis=1), 1, atol=1e-12)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_adjoint_is_the_transpose_and_keeps_sums(name, orientation):
    """<A x, y> = <x, A^T y> with A x taken from Pillow: box, resize, EXIF turn, placement."""
    sent, crop, stored_size = (19, 31), (1.5, 2.0, 17.5, 29.0), (12, 9)
    upright = stored_size[::-1] if orientation in (5, 6, 7, 8) else stored_size
    geometry = Geometry(sent, (14, 13), crop, upright, name, orientation, offset=(1, 1))
    x = rng.normal(size=(31, 19)).astype(np.float32)
    turned = np.ascontiguousarray(turn(pillow_resize(x, stored_size, name, crop), orientation))
    forward = np.zeros((13, 14))
    forward[1 : 1 + upright[1], 1 : 1 + upright[0]] = turned
    y = rng.normal(size=(13, 14, 3))
    back = adjoint(y, geometry)
    assert back.shape == (31, 19, 3)
    np.testing.assert_allclose(np.tensordot(forward, y, axes=2), np.tensordot(x, back, axes=2), rtol=1e-5, atol=1e-5)
    assert back.sum() + margin_sum(y, geometry) == pytest.approx(y.sum(), abs=1e-9)


@pytest.mark.parametrize(("sent", "factor"), [((64, 48), 2), ((65, 51), 4), ((71, 63), 8)])
def test_adjoint_of_a_jpeg_decoded_smaller_keeps_sums(sent, factor):
    geometry = Geometry(sent, (8, 6), (0, 0, *map(float, sent)), (8, 6), "bilinear", reduced=factor)
    y = rng.normal(size=(6, 8, 1))
    back = adjoint(y, geometry)
    assert back.shape == (sent[1], sent[0], 1)
    assert back.sum() == pytest.approx(y.sum(), abs=1e-9)
    # each decoded pixel's share is spread evenly over the block it was made of
    assert np.ptp(back[:factor, :factor, 0]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turns_are_pillows(orientation):
    stored = rng.integers(0, 255, (5, 7, 3)).astype(np.uint8)
    image = Image.fromarray(stored)
    image.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(turn(stored, orientation), upright)
    np.testing.assert_array_equal(unturn(upright, orientation), stored)


def test_upsample_is_smooth_upright_and_zero_where_cut_away():
    geometry = Geometry((60, 40), (8, 8), (10.0, 0.0, 50.0, 40.0), (8, 8), "bilinear", orientation=6)
    attributions = np.zeros((8, 8), np.float32)
    attributions[0, :] = 1.0  # the upright picture's top edge
    shown = upsample(attributions, geometry)
    assert geometry.upright == (40, 60)
    assert shown.shape == (60, 40)
    assert np.all(shown[:10] == 0)
    assert np.all(shown[50:] == 0)
    assert shown[11].min() > 0.9
    assert abs(shown[40:50]).max() < 0.1


def test_upsample_at_the_models_size_changes_nothing():
    geometry = Geometry((28, 28), (28, 28), (0.0, 0.0, 28.0, 28.0), (28, 28), "bilinear")
    attributions = rng.normal(size=(28, 28)).astype(np.float32)
    np.testing.assert_array_equal(upsample(attributions, geometry), attributions)


def test_upsample_keeps_bytes_bytes_and_fills_what_was_cut_away():
    geometry = Geometry((60, 40), (8, 8), (10.0, 0.0, 50.0, 40.0), (8, 8), "bilinear")
    shown = upsample(np.full((8, 8), 200, np.uint8), geometry, outside=127)
    assert shown.dtype == np.uint8
    assert (shown[:, :10] == 127).all()
    assert (shown[:, 10:50] == 200).all()


def test_json_maps_back():
    geometry = Geometry((60, 40), (8, 8), (10.0, 0.0, 50.0, 40.0), (8, 8), "bicubic", 6, 2, (0, 0), True)
    assert geometry.to_json() == {
        "sent": {"width": 60, "height": 40},
        "crop_box": [10.0, 0.0, 50.0, 40.0],
        "resized": {"width": 8, "height": 8},
        "filter": "bicubic",
        "decoded_at": "1/2",
        "exif_orientation": 6,
        "offset": [0, 0],
        "frame": {"width": 8, "height": 8},
        "inverted": True,
    }

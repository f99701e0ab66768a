"""Bars of tables and of latents: order, sums, labels; the SVG is well-formed."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from service.explain.render.bars import Bar, draw_bars, largest, render_bars
from service.explain.render.image import Caption
from service.explain.render.latent import class_share, draw_latent, latent_bars, render_latent
from service.explain.render.table import table_bars
from service.manifest import Column, Input

SVG = "{http://www.w3.org/2000/svg}"
LATENT = Input(name="latent", codec="tensor", dtype="float32", shape=(4,), sample="normal")
CLASS = Input(name="class", codec="tensor", dtype="int64", shape=(), labels=tuple("0123456789"), sample="label")


def bars(*numbers):
    return [Bar(f"f{index}", "1", number) for index, number in enumerate(numbers)]


def test_the_largest_first_and_the_rest_together():
    ranked = largest(bars(0.1, -3.0, 0.2, 2.0), 3)
    assert [bar.name for bar in ranked] == ["f1", "f3", "2 others together"]
    assert ranked[-1].attribution == pytest.approx(0.3)
    assert [bar.name for bar in largest(bars(1.0, 2.0), 2)] == ["f1", "f0"]


def test_the_svg_is_well_formed_and_to_scale():
    root = ElementTree.fromstring(
        render_bars([Bar("<b> & co", "3 g/l", 2.0), Bar("other", "", -1.0)]).replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"')
    )
    assert [title.text for title in root.iter(SVG + "title")] == ["<b> & co = 3 g/l: +2", "other: -1"]
    first, second = list(root.iter(SVG + "rect"))
    assert float(first.get("width")) == pytest.approx(2 * float(second.get("width")), abs=0.2)
    axis = float(next(root.iter(SVG + "line")).get("x1"))
    assert float(first.get("x")) == pytest.approx(axis)
    assert float(second.get("x")) + float(second.get("width")) == pytest.approx(axis, abs=0.2)


def test_all_zero_and_no_bars_draw_too():
    assert "<svg" in render_bars(bars(0.0, 0.0))
    assert "<svg" in render_bars([])
    assert draw_bars([], Caption("nothing")).width > 0


def test_the_picture_has_the_bars_colours():
    pixels = np.asarray(draw_bars(bars(1.0, -1.0), Caption("t"))).astype(int)
    assert (pixels[..., 0] > pixels[..., 2] + 80).sum() == pytest.approx((pixels[..., 2] > pixels[..., 0] + 80).sum(), rel=0.05)


def test_a_table_names_units_categories_and_what_is_missing():
    columns = (Column(name="alcohol", unit="% vol"), Column(name="colour", categories=("red", "white")), Column(name="sugar"))
    shown = table_bars(columns, [11.5, 1.0, float("nan")], [0.1, -0.5, 0.2])
    assert [bar.label for bar in shown] == ["colour = white", "sugar = missing", "alcohol = 11.5 % vol"]
    assert [bar.attribution for bar in shown] == [-0.5, 0.2, 0.1]


def test_latents_and_the_class():
    values = {"latent": np.array([0.5, -1.0, 2.0, 0.0]), "class": np.array(7)}
    attributions = {"latent": np.array([1.0, -4.0, 0.0, 0.5]), "class": np.array(5.5)}
    shown = latent_bars((LATENT, CLASS), values, attributions, limit=4)
    assert [bar.label for bar in shown] == ["class = 7", "latent[1] = -1", "latent[0] = 0.5", "2 others together"]
    assert class_share(attributions, "class") == pytest.approx(0.5)
    one_hot = attributions | {"class": np.array([0.5] * 10 + [0.5])}
    assert class_share(one_hot, "class") == pytest.approx(0.5)
    assert class_share({"class": np.array(0.0)}, "class") == 0.0


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (32, 32, 3)])
def test_the_generated_picture_stands_beside_its_bars(shape):
    picture = np.zeros(shape, np.uint8)
    fragment = render_latent(picture, bars(1.0), 'a "picture"')
    assert "data:image/png;base64," in fragment
    assert 'alt="a &quot;picture&quot;"' in fragment
    drawn = draw_latent(picture, bars(1.0, 2.0), Caption("t"))
    assert (np.asarray(drawn)[16:240, 16:240] == 0).all()

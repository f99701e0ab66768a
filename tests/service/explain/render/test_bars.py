"""Bars of tables and of latents: order, sums, labels; the SVG is well-formed."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from service.explain.render.bars import Bar, Column, draw_bars, largest, render_bars
from service.explain.render.colormap import UNSIGNED
from service.explain.render.latent import class_share, draw_latent, number_bars, render_latent
from service.explain.render.table import table_bars
from service.manifest import Column as TableColumn
from service.manifest import Input

SVG = "{http://www.w3.org/2000/svg}"
LATENT = Input(name="latent", codec="tensor", dtype="float32", shape=(4,), sample="normal")
CLASS = Input(name="class", codec="tensor", dtype="int64", shape=(), labels=tuple("0123456789"), sample="label")


def bars(*numbers):
    return [Bar(f"f{index}", "1", (number,)) for index, number in enumerate(numbers)]


def test_the_largest_first_and_the_rest_together():
    ranked = largest(bars(0.1, -3.0, 0.2, 2.0), 3)
    assert [bar.name for bar in ranked] == ["f1", "f3", "2 others together"]
    assert ranked[-1].attributions == (pytest.approx(0.3),)
    assert [bar.name for bar in largest(bars(1.0, 2.0), 2)] == ["f1", "f0"]


def test_the_svg_is_well_formed_and_to_scale():
    root = ElementTree.fromstring(
        render_bars([Bar("<b> & co", "3 g/l", (2.0,)), Bar("other", "", (-1.0,))]).replace(
            "<svg", '<svg xmlns="http://www.w3.org/2000/svg"'
        )
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
    assert draw_bars([]).width > 0


def test_the_picture_has_the_bars_colours():
    pixels = np.asarray(draw_bars(bars(1.0, -1.0))).astype(int)
    assert (pixels[..., 0] > pixels[..., 2] + 80).sum() == pytest.approx((pixels[..., 2] > pixels[..., 0] + 80).sum(), rel=0.05)


def test_a_table_names_units_categories_and_what_is_missing():
    columns = (
        TableColumn(name="alcohol", unit="% vol"),
        TableColumn(name="colour", categories=("red", "white")),
        TableColumn(name="sugar"),
    )
    shown = table_bars(columns, [11.5, 1.0, float("nan")], [[0.1, -0.5, 0.2], [1, 2, 3]])
    assert [bar.label for bar in shown] == ["alcohol = 11.5 % vol", "colour = white", "sugar = missing"]
    assert [bar.attributions for bar in shown] == [(0.1, 1), (-0.5, 2), (0.2, 3)]


def test_latents_and_the_class():
    attributions = {"latent": np.array([1.0, -4.0, 0.0, 0.5]), "class": np.array(5.5)}
    shown = number_bars(LATENT, np.array([0.5, -1.0, 2.0, 0.0]), [attributions["latent"]])
    shown += number_bars(CLASS, np.array(7), [attributions["class"]])
    assert [bar.label for bar in largest(shown, 4)] == ["class = 7", "latent[1] = -1", "latent[0] = 0.5", "2 others together"]
    assert class_share(attributions, "class") == pytest.approx(0.5)
    one_hot = attributions | {"class": np.array([0.5] * 10 + [0.5])}
    assert number_bars(CLASS, np.array(7), [one_hot["class"]])[0].attributions == (5.5,)
    assert class_share(one_hot, "class") == pytest.approx(0.5)
    assert class_share({"class": np.array(0.0)}, "class") == 0.0


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (32, 32, 3)])
def test_the_generated_picture_stands_beside_its_bars(shape):
    picture = np.zeros(shape, np.uint8)
    fragment = render_latent(picture, bars(1.0), 'a "picture"')
    assert "data:image/png;base64," in fragment
    assert 'alt="a &quot;picture&quot;"' in fragment
    drawn = draw_latent(picture, bars(1.0, 2.0))
    assert (np.asarray(drawn)[:224, :224] == 0).all()


METHODS = (Column("gradients"), Column("magnitudes", UNSIGNED))


def test_several_methods_stand_side_by_side_each_to_its_own_scale():
    shown = [Bar("a", "", (4.0, 0.1)), Bar("b", "", (-2.0, 0.2)), Bar("c", "", (math.nan, 0.05))]
    root = ElementTree.fromstring(render_bars(shown, METHODS).replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"'))
    drawn = {g.find(SVG + "title").text: g.find(SVG + "rect") for g in root.iter(SVG + "g")}
    assert set(drawn) == {  # what a method doesn't reach isn't drawn, and a magnitude has no sign
        "a, gradients: +4",
        "b, gradients: -2",
        "a, magnitudes: 0.1",
        "b, magnitudes: 0.2",
        "c, magnitudes: 0.05",
    }
    width = {title: float(rect.get("width")) for title, rect in drawn.items()}
    assert width["a, gradients: +4"] == pytest.approx(2 * width["b, gradients: -2"], abs=0.2)
    assert width["b, magnitudes: 0.2"] == pytest.approx(2 * width["a, magnitudes: 0.1"], abs=0.2)
    axes = [float(line.get("x1")) for line in root.iter(SVG + "line")]
    assert float(drawn["a, magnitudes: 0.1"].get("x")) == pytest.approx(axes[1])
    assert [text.text for text in root.iter(SVG + "text")][:2] == ["gradients", "magnitudes"]
    assert draw_bars(shown, METHODS).width > draw_bars(shown[:1]).width


def test_the_rank_is_by_each_methods_own_largest():
    shown = [Bar("a", "", (1000.0, 0.0)), Bar("b", "", (10.0, 0.5)), Bar("c", "", (900.0, -0.1)), Bar("d", "", (math.nan, 0.2))]
    assert [bar.name for bar in largest(shown, 4)] == ["a", "b", "c", "d"]
    others = largest(shown, 3)[-1]
    assert others.attributions == (900.0, pytest.approx(0.1))

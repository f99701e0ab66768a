"""Trust figures on a page: what is there is shown, what isn't is left out; the curves are drawn to scale."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from service.explain.render.quality import render_quality

CURVE = {"area": 0.25, "random_area": 0.5, "curve": [1.0, 0.0, 0.0], "random_curve": [1.0, 0.5, 0.0], "fractions": [0.0, 0.5, 1.0]}
QUALITY = {
    "completeness_error": 0.0043,
    "parity_error": None,
    "infidelity": 0.1234567,
    "sensitivity_max": 0.0,
    "deletion": CURVE | {"random_deviation": 0.07},
    "insertion": None,
    "curves_show": "probability",
    "removed": "<pixels>",
}


def test_what_is_null_is_left_out_and_zero_is_not():
    shown = re.sub(r"<[^>]*>", " ", render_quality(QUALITY))
    assert "0.0043" in shown
    assert "0.123 " in shown
    assert "maximum sensitivity  0 " in shown
    assert "0.25 (random order 0.5 ± 0.07)" in shown
    assert "parity" not in shown
    assert "insertion" not in shown
    assert "100% of the &lt;pixels&gt;" in shown
    assert render_quality({}) == render_quality({"infidelity": None}) == ""


def test_both_lines_are_drawn_to_scale():
    (svg,) = re.findall(r"<svg.*?</svg>", render_quality(QUALITY))
    root = ElementTree.fromstring(svg)
    floor, method = ([tuple(map(float, point.split(","))) for point in line.get("points").split()] for line in root.iter("polyline"))
    frame = next(root.iter("rect"))
    left, top, width, height = (float(frame.get(name)) for name in ("x", "y", "width", "height"))
    assert method == [(left, top), (left + width / 2, top + height), (left + width, top + height)]
    assert floor[1] == (left + width / 2, pytest.approx(top + height / 2))


def test_a_flat_curve_and_one_without_fractions_are_drawn():
    flat = {"area": 1.0, "random_area": 1.0, "curve": [1.0, 1.0], "random_curve": [1.0, 1.0]}
    assert "nan" not in render_quality({"deletion": flat}).lower()

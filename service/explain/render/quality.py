"""The figures that say how far to trust an explanation: a table, and the deletion and insertion curves as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from service.explain.render.colormap import SIGNED, hex_of

_FIGURES = (
    ("completeness_error", "completeness error", "what the attributions' sum misses of the change that they explain; 0 is exact"),
    ("parity_error", "parity error", "how far the differentiated copy of the model is from the served one"),
    ("infidelity", "infidelity", "how badly the attributions foretell what random changes of the input do; 0 is perfect"),
    ("sensitivity_max", "maximum sensitivity", "how much the explanation changes when the input changes a little; 0 is stable"),
)
_CURVES = (
    ("deletion", "deletion", "the most important first taken away: the sooner it falls, the better"),
    ("insertion", "insertion", "the most important first put in: the sooner it rises, the better"),
)
_WIDTH, _HEIGHT = 280, 150
_LEFT, _BOTTOM = 46, 22
_METHOD, _RANDOM = hex_of(SIGNED.colour_of(0.6)), "#888"


def render_quality(quality: Mapping[str, Any]) -> str:
    """An HTML fragment of what `quality` holds; a figure that it doesn't hold, or that is null, is left out."""
    rows = [(title, _number(quality[name]), meaning) for name, title, meaning in _FIGURES if quality.get(name) is not None]
    rows += [(f"{title} area", _area(curve), meaning) for name, title, meaning in _CURVES if (curve := quality.get(name))]
    table = "".join(
        f'<tr><th class="whole">{title}</th><td class="whole">{value}</td><td>{escape(meaning)}</td></tr>' for title, value, meaning in rows
    )
    shown, parts = str(quality.get("curves_show") or "output"), str(quality.get("removed") or "input")
    charts = "".join(
        _chart(f"{title}: {shown}", parts, curve) for name, title, _ in _CURVES if (curve := quality.get(name)) and len(curve["curve"]) > 1
    )
    return f'<table>{table}</table><div style="display:flex;gap:1.5em;flex-wrap:wrap">{charts}</div>' if rows else ""


def _chart(title: str, parts: str, curve: Mapping[str, Any]) -> str:
    """The output over the share of the parts that were removed or put back, in the method's order and in a random one."""
    shares = np.asarray(curve.get("fractions") or np.linspace(0, 1, len(curve["curve"])), float)
    lines = [np.asarray(curve[name], float) for name in ("curve", "random_curve")]
    low, high = min(float(line.min()) for line in lines), max(float(line.max()) for line in lines)
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    method, floor = (_path(shares, line, low, high) for line in lines)
    base = _HEIGHT - _BOTTOM
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" style="font:11px sans-serif" role="img" '
        f'aria-label="{escape(title)}, curve">'
        f'<rect x="{_LEFT}" y="20" width="{_WIDTH - _LEFT - 8}" height="{base - 20}" fill="none" stroke="#ddd"/>'
        f'<text x="{_LEFT}" y="13">{escape(title)}</text>'
        f'<text x="{_WIDTH - 8}" y="13" text-anchor="end"><tspan fill="{_METHOD}">method</tspan> '
        f'<tspan fill="{_RANDOM}">random order</tspan></text>'
        f'<text x="{_LEFT - 4}" y="28" text-anchor="end" fill="#666">{high:.3g}</text>'
        f'<text x="{_LEFT - 4}" y="{base}" text-anchor="end" fill="#666">{low:.3g}</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 6}" fill="#666">0%</text>'
        f'<text x="{_WIDTH - 8}" y="{_HEIGHT - 6}" text-anchor="end" fill="#666">100% of the {escape(parts)}</text>'
        f'<polyline points="{floor}" fill="none" stroke="{_RANDOM}" stroke-width="1.5" stroke-dasharray="4 3"/>'
        f'<polyline points="{method}" fill="none" stroke="{_METHOD}" stroke-width="2"/></svg>'
    )


def _path(shares: np.ndarray[Any, Any], values: Sequence[float] | np.ndarray[Any, Any], low: float, high: float) -> str:
    base, span = _HEIGHT - _BOTTOM, _WIDTH - _LEFT - 8
    points = zip(shares, np.asarray(values, float), strict=True)
    return " ".join(f"{_LEFT + span * x:.1f},{base - (base - 20) * (y - low) / (high - low):.1f}" for x, y in points)


def _area(curve: Mapping[str, Any]) -> str:
    scatter = f" ± {_number(curve['random_deviation'])}" if curve.get("random_deviation") is not None else ""
    return f"{_number(curve['area'])} (random order {_number(curve['random_area'])}{scatter})"


def _number(value: float) -> str:
    return f"{value:.3g}"

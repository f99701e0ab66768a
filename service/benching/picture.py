"""Throughput and latency against concurrency as a PNG, drawn with Pillow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

from service.benching.measure import Measured

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 1200, 1160, 150, 120, 90
_PANEL, _GAP = 400, 100
_INK, _GRID, _BLUE, _RED = "#1f2933", "#d9dee3", "#1f6feb", "#d1422f"


@dataclass(frozen=True, slots=True)
class _Line:
    name: str
    colour: str
    values: Sequence[float]


def drawn(found: Measured) -> bytes:
    """A PNG of two panels, the knee marked in both."""
    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    draw.text((_LEFT, 30), f"{found.model} :{found.verb}", fill=_INK, font=_font(34))
    at = found.knee
    draw.text((_LEFT, 74), f"knee: {at.load.rate:.4g} requests/s with {at.concurrency} under way", fill=_INK, font=_font(22))
    answered = [level for level in found.levels if level.load.requests]
    ticks = [level.concurrency for level in answered]
    rates = _Line("requests/s", _BLUE, [level.load.rate for level in answered])
    latencies = [
        _Line("p99 ms", _RED, [level.load.percentile(99) * 1e3 for level in answered]),
        _Line("p50 ms", _BLUE, [level.load.percentile(50) * 1e3 for level in answered]),
    ]
    _panel(draw, _TOP + 30, [rates], ticks, at.concurrency)
    _panel(draw, _TOP + 30 + _PANEL + _GAP, latencies, ticks, at.concurrency)
    draw.text((_WIDTH / 2, _HEIGHT - 45), "requests under way", fill=_INK, font=_font(22), anchor="mm")
    out = BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def _panel(draw: ImageDraw.ImageDraw, top: int, lines: Sequence[_Line], ticks: Sequence[int], knee: int) -> None:
    """One pair of axes: concurrency by its logarithm, values from 0 to a round number above the highest."""
    right, bottom = _WIDTH - 60, top + _PANEL
    step = _round_step(max(max(line.values) for line in lines))
    count = math.ceil(max(max(line.values) for line in lines) / step)

    def x(concurrency: int) -> float:
        return _LEFT + 20 + (right - _LEFT - 40) * (math.log2(concurrency / ticks[0]) / max(math.log2(ticks[-1] / ticks[0]), 1))

    def y(value: float) -> float:
        return bottom - _PANEL * value / (step * count)

    for k in range(count + 1):
        draw.line([(_LEFT, y(k * step)), (right, y(k * step))], fill=_INK if k == 0 else _GRID, width=2)
        draw.text((_LEFT - 14, y(k * step)), f"{k * step:,.10g}", fill=_INK, font=_font(20), anchor="rm")
    draw.line([(x(knee), top), (x(knee), bottom)], fill=_GRID, width=6)
    for tick in ticks:
        draw.text((x(tick), bottom + 20), str(tick), fill=_INK, font=_font(20), anchor="mm")
    for k, line in enumerate(lines):
        points = [(x(tick), y(value)) for tick, value in zip(ticks, line.values, strict=True)]
        draw.line(points, fill=line.colour, width=5, joint="curve")
        for px, py in points:
            draw.ellipse([px - 8, py - 8, px + 8, py + 8], fill=line.colour)
        draw.text((_LEFT + 14 + 130 * k, top - 22), line.name, fill=line.colour, font=_font(22), anchor="lm")


def _round_step(highest: float) -> float:
    """1, 2 or 5 times a power of ten that makes three to six steps."""
    power = 10.0 ** math.floor(math.log10(highest / 5)) if highest > 0 else 1.0
    return next((factor * power for factor in (1, 2, 5) if highest / (factor * power) <= 6), 10 * power)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)

"""Signed bars, one a feature, largest first: inline SVG for pages and a Pillow picture, from one layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image, ImageDraw, ImageFont

from service.explain.render.colormap import Colour, colour_of, hex_of
from service.explain.render.image import INK, PAPER, QUIET, Caption, fitted

WIDTH = 640
_LABELS = 240
"""Pixels for the features' names."""
_NUMBERS = 78
"""Pixels on either side for the numbers at the bars' ends."""
_ROW = 26
_MARGIN = 12
_AXIS = (_LABELS + WIDTH) / 2
_REACH = (WIDTH - _LABELS) / 2 - _NUMBERS


@dataclass(frozen=True, slots=True)
class Bar:
    name: str
    value: str
    """The feature's own value as text, empty where there is none to show."""
    attribution: float

    @property
    def label(self) -> str:
        return f"{self.name} = {self.value}" if self.value else self.name


def largest(bars: Sequence[Bar], limit: int) -> list[Bar]:
    """The bars by magnitude; beyond `limit`, the rest as one bar that keeps their sum."""
    ranked = sorted(bars, key=lambda bar: abs(bar.attribution), reverse=True)
    if len(ranked) <= limit:
        return ranked
    shown, others = ranked[: limit - 1], ranked[limit - 1 :]
    return [*shown, Bar(f"{len(others)} others together", "", sum(bar.attribution for bar in others))]


def render_bars(bars: Sequence[Bar]) -> str:
    """Inline SVG, scaling with the page; each bar's full label and number are its tooltip."""
    height = _ROW * len(bars) + 8
    rows = "".join(_svg_row(row) for row in _layout(bars))
    axis = f'<line x1="{_AXIS}" y1="0" x2="{_AXIS}" y2="{height}" stroke="#999"/>'
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" style="width:100%;max-width:{WIDTH}px;font:13px sans-serif" role="img" '
        f'aria-label="attribution of each feature">{axis}{rows}</svg>'
    )


def draw_bars(bars: Sequence[Bar], caption: Caption) -> Image.Image:
    """The same as a picture, under a caption."""
    top = _MARGIN + 26 + 18 * len(caption.lines) + 8
    sheet = Image.new("RGB", (WIDTH + 2 * _MARGIN, top + _ROW * len(bars) + _MARGIN), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    draw.text((_MARGIN, _MARGIN), fitted(draw, caption.title, 18, WIDTH), fill=INK, font=ImageFont.load_default(18))
    for number, line in enumerate(caption.lines):
        draw.text((_MARGIN, _MARGIN + 26 + 18 * number), fitted(draw, line, 13, WIDTH), fill=QUIET, font=font)
    for row in _layout(bars):
        y = top + row.y
        label = fitted(draw, row.bar.label, 13, _LABELS - 12)
        draw.text((_MARGIN + _LABELS - 10, y + _ROW / 2), label, fill=INK, font=font, anchor="rm")
        draw.rectangle((_MARGIN + row.left, y + 4, _MARGIN + row.right, y + _ROW - 5), fill=row.colour)
        x = _MARGIN + (row.right + 5 if row.bar.attribution >= 0 else row.left - 5)
        draw.text((x, y + _ROW / 2), row.number, fill=QUIET, font=font, anchor="lm" if row.bar.attribution >= 0 else "rm")
    draw.line((_MARGIN + _AXIS, top, _MARGIN + _AXIS, top + _ROW * len(bars)), fill=(150, 150, 150))
    return sheet


@dataclass(frozen=True, slots=True)
class _Row:
    bar: Bar
    y: float
    left: float
    right: float
    colour: Colour

    @property
    def number(self) -> str:
        return f"{self.bar.attribution:+.4g}"


def _layout(bars: Sequence[Bar]) -> Iterator[_Row]:
    longest = max((abs(bar.attribution) for bar in bars), default=0.0) or 1.0
    for index, bar in enumerate(bars):
        end = _AXIS + bar.attribution / longest * _REACH
        colour = colour_of(0.6 if bar.attribution >= 0 else -0.6)
        yield _Row(bar, _ROW * index, min(_AXIS, end), max(_AXIS, end), colour)


def _svg_row(row: _Row) -> str:
    middle = row.y + _ROW / 2 + 5
    positive = row.bar.attribution >= 0
    label = row.bar.label if len(row.bar.label) <= 36 else row.bar.label[:35] + "…"
    return (
        f"<g><title>{escape(row.bar.label)}: {row.number}</title>"
        f'<text x="{_LABELS - 10}" y="{middle}" text-anchor="end" fill="{hex_of(INK)}">{escape(label)}</text>'
        f'<rect x="{row.left:.1f}" y="{row.y + 4}" width="{row.right - row.left:.1f}" height="{_ROW - 9}" fill="{hex_of(row.colour)}"/>'
        f'<text x="{row.right + 5 if positive else row.left - 5:.1f}" y="{middle}" '
        f'text-anchor="{"start" if positive else "end"}" fill="{hex_of(QUIET)}">{row.number}</text></g>'
    )

"""Bars, one a feature and method, largest first: inline SVG for pages and a Pillow picture, from one layout."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from service.explain.render.colormap import SIGNED, Colour, Scale, hex_of
from service.explain.render.sheet import INK, PAPER, QUIET, SMALL, Picture, fitted

_LABELS = 240
"""Pixels for the features' names."""
_NUMBERS = 70
"""Pixels at a bar's end for its number."""
_ALONE, _AMONG = 400, 270
"""Pixels of a method's column where there is one and where there are several."""
_ROW = 26
_HEADER = 22
_GREY = (150, 150, 150)


@dataclass(frozen=True, slots=True)
class Bar:
    """A feature with its attribution by each method, NaN of a method that doesn't reach it."""

    name: str
    value: str
    """The feature's own value as text, empty where there is none to show."""
    attributions: tuple[float, ...]

    @property
    def label(self) -> str:
        return f"{self.name} = {self.value}" if self.value else self.name


@dataclass(frozen=True, slots=True)
class Column:
    """A method's own scale: its largest bar fills the column."""

    title: str = ""
    colours: Scale = SIGNED


ALONE = (Column(),)


def largest(bars: Sequence[Bar], limit: int) -> list[Bar]:
    """The bars by magnitude (of several methods: the largest share of a method's own largest bar); beyond `limit`, the rest as
    one bar that keeps their sums."""
    if not bars:
        return []
    magnitudes = np.abs(np.nan_to_num([bar.attributions for bar in bars]))  # (bars, methods)
    shares = (magnitudes / np.maximum(magnitudes.max(axis=0), np.finfo(float).tiny)).max(axis=1)
    ranked = [bars[place] for place in np.argsort(-shares, kind="stable")]
    if len(ranked) <= limit:
        return ranked
    shown, others = ranked[: limit - 1], ranked[limit - 1 :]
    sums = tuple(float(total) for total in np.nansum([bar.attributions for bar in others], axis=0))
    return [*shown, Bar(f"{len(others)} others together", "", sums)]


def render_bars(bars: Sequence[Bar], columns: Sequence[Column] = ALONE) -> str:
    """Inline SVG, scaling with the page; each bar's full label and number are its tooltip."""
    layout = _Layout(columns)
    height = layout.top + _ROW * len(bars) + 8
    titles = "".join(
        f'<text x="{layout.left(i)}" y="14" fill="{hex_of(QUIET)}">{escape(column.title)}</text>' for i, column in enumerate(columns)
    )
    axes = "".join(
        f'<line x1="{x}" y1="{layout.top}" x2="{x}" y2="{height}" stroke="#999"/>' for x in map(layout.axis, range(len(columns)))
    )
    labels = "".join(
        f'<text x="{_LABELS - 10}" y="{layout.middle(row) + 5}" text-anchor="end" fill="{hex_of(INK)}">{escape(_short(bar.label))}</text>'
        for row, bar in enumerate(bars)
    )
    drawn = "".join(_svg_strip(strip) for strip in layout.strips(bars))
    return (
        f'<svg viewBox="0 0 {layout.width} {height}" style="width:100%;max-width:{layout.width}px;font:13px sans-serif" role="img" '
        f'aria-label="attribution of each feature">{titles}{axes}{labels}{drawn}</svg>'
    )


def draw_bars(bars: Sequence[Bar], columns: Sequence[Column] = ALONE) -> Picture:
    """The same as a picture."""
    layout = _Layout(columns)
    bottom = layout.top + _ROW * max(1, len(bars))
    sheet = Image.new("RGB", (layout.width, bottom), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(SMALL)
    for i, column in enumerate(columns):
        draw.text((layout.left(i), 2), column.title, fill=QUIET, font=font)
    for row, bar in enumerate(bars):
        label = fitted(draw, bar.label, SMALL, _LABELS - 12)
        draw.text((_LABELS - 10, layout.middle(row)), label, fill=INK, font=font, anchor="rm")
    for strip in layout.strips(bars):
        draw.rectangle((strip.left, strip.middle - 9, strip.right, strip.middle + 8), fill=strip.colour)
        draw.text((strip.number_x, strip.middle), strip.number, fill=QUIET, font=font, anchor="lm" if strip.rightwards else "rm")
    for x in map(layout.axis, range(len(columns))):
        draw.line((x, layout.top, x, bottom), fill=_GREY)
    return sheet


@dataclass(frozen=True, slots=True)
class _Strip:
    """One bar of one method, in pixels."""

    label: str
    attribution: float
    middle: float
    left: float
    right: float
    colour: Colour
    signed: bool

    @property
    def rightwards(self) -> bool:
        return self.attribution >= 0

    @property
    def number(self) -> str:
        return f"{self.attribution:+.4g}" if self.signed else f"{self.attribution:.4g}"

    @property
    def number_x(self) -> float:
        return self.right + 5 if self.rightwards else self.left - 5


@dataclass(frozen=True, slots=True)
class _Layout:
    columns: Sequence[Column]

    @property
    def _column(self) -> int:
        return _ALONE if len(self.columns) == 1 else _AMONG

    @property
    def width(self) -> int:
        return _LABELS + self._column * len(self.columns)

    @property
    def top(self) -> int:
        return _HEADER if any(column.title for column in self.columns) else 0

    def left(self, column: int) -> int:
        return _LABELS + self._column * column

    def axis(self, column: int) -> float:
        """In the middle for attributions with a sign, at the left for magnitudes."""
        return self.left(column) + (self._column / 2 if self.columns[column].colours.signed else 4)

    def middle(self, row: int) -> float:
        return self.top + _ROW * row + _ROW / 2

    def strips(self, bars: Sequence[Bar]) -> Iterator[_Strip]:
        for i, column in enumerate(self.columns):
            reached = [(row, bar, bar.attributions[i]) for row, bar in enumerate(bars) if not math.isnan(bar.attributions[i])]
            longest = max((abs(value) for _, _, value in reached), default=0.0) or 1.0
            reach = self.left(i) + self._column - self.axis(i) - _NUMBERS
            for row, bar, value in reached:
                axis = self.axis(i)
                end = axis + value / longest * reach
                colour = column.colours.colour_of(0.6 if value >= 0 else -0.6)
                label = f"{bar.label}, {column.title}" if column.title else bar.label
                yield _Strip(label, value, self.middle(row), min(axis, end), max(axis, end), colour, column.colours.signed)


def _svg_strip(strip: _Strip) -> str:
    return (
        f"<g><title>{escape(strip.label)}: {strip.number}</title>"
        f'<rect x="{strip.left:.1f}" y="{strip.middle - 9}" width="{strip.right - strip.left:.1f}" height="17" '
        f'fill="{hex_of(strip.colour)}"/>'
        f'<text x="{strip.number_x:.1f}" y="{strip.middle + 5}" text-anchor="{"start" if strip.rightwards else "end"}" '
        f'fill="{hex_of(QUIET)}">{strip.number}</text></g>'
    )


def _short(label: str) -> str:
    return label if len(label) <= 36 else label[:35] + "…"

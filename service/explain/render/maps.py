"""What a layer holds, drawn: a tile a map, each on its own scale; filters and shares with zero neutral; vectors as bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from service.explain.render.bars import Bar, draw_bars, largest
from service.explain.render.colormap import SIGNED, Scale, symmetric_scale
from service.explain.render.image import draw_legend
from service.explain.render.sheet import PAPER, QUIET, SMALL, Caption, Picture, below, fitted, labelled, render_grid, titled

Array = npt.NDArray[Any]

MOST_TILES = 64
_TILE = 112
"""Pixels a side at least: a map of 3 x 3 must be seen too."""
_WIDEST = 1100
_NARROWEST, _TALLEST = 440, 900
_BARS = 30
_RAMP = 160
LEVELS = Scale(
    np.array([(0, 32, 77), (38, 58, 109), (84, 91, 109), (124, 123, 120), (165, 156, 116), (212, 193, 93), (253, 234, 69)], dtype=float),
    0.0,
    "least of a map",
    "most of it",
)
"""Dark blue to yellow: cividis (Nunez, Anderton, Renslow 2018), made for colour-blind eyes."""


WEIGHTS = Scale(SIGNED.anchors, SIGNED.lowest, "negative", "positive")
"""Of numbers that speak neither for nor against anything."""


def draw_maps(maps: Array, labels: Sequence[str], *, signed: bool = False) -> Picture:
    """A tile a map of `maps` (K, H, W), over the legend: each from its least to its most, or `signed` with zero neutral and one
    scale for all."""
    scale = symmetric_scale(maps)
    tiles = []
    for values, label in zip(maps[:MOST_TILES], labels, strict=False):
        colours = SIGNED.colours(np.clip(values / scale, -1, 1)) if signed else LEVELS.colours(_spread(values))
        tiles.append(labelled(_enlarged(colours), label))
    columns = max(1, min(math.ceil(math.sqrt(len(tiles)) * 1.3), _WIDEST // (max(tile.width for tile in tiles) + 8)))
    colours_used = WEIGHTS if signed else LEVELS
    ramp = colours_used.colours(np.linspace(colours_used.lowest, 1, _RAMP))
    return below([render_grid(tiles, columns, gap=8), draw_legend(ramp, colours_used)], gap=8)


def draw_pictures(pictures: Sequence[Array], labels: Sequence[str]) -> Picture:
    """Pictures (H, W, C) uint8, enlarged, each with its label."""
    tiles = [
        labelled(_enlarged(np.repeat(p, 3, axis=2) if p.shape[2] == 1 else p), label) for p, label in zip(pictures, labels, strict=True)
    ]
    return render_grid(tiles, min(5, len(tiles)), gap=8)


def draw_matrix(values: Array, rows: str, columns: str) -> Picture:
    """A matrix (rows, columns) as one map on the signed scale, under the names of its axes."""
    height, width = values.shape
    colours = SIGNED.colours(np.clip(values / symmetric_scale(values), -1, 1))
    size = (min(_WIDEST, max(_NARROWEST, width * 4)), min(_TALLEST, height * max(4, min(18, _NARROWEST // max(1, height)))))
    drawn = Image.fromarray(np.ascontiguousarray(colours)).convert("RGB").resize(size, Image.Resampling.NEAREST)
    ramp = WEIGHTS.colours(np.linspace(WEIGHTS.lowest, 1, _RAMP))
    return below([labelled(drawn, f"{height} {rows} down, {width} {columns} across"), draw_legend(ramp, WEIGHTS)], gap=8)


def draw_vector(values: Array, labels: Sequence[str]) -> Picture:
    """A vector (K,) as bars, largest first; the smallest of many together."""
    return draw_bars(largest([Bar(label, "", (float(v),)) for label, v in zip(labels, values, strict=True)], _BARS))


def figure(body: Picture, title: str, lines: Sequence[str], seen: str) -> Picture:
    """The body under its caption, over one line that says what is seen."""
    return titled(below([body, _line(seen, max(body.width, 460))], gap=10), Caption(title, tuple(lines)))


def channel_labels(maps: Array, channels: Sequence[int] | None, word: str = "#") -> list[str]:
    """A map's number and what it reaches at most."""
    numbers = channels if channels is not None else range(len(maps))
    return [f"{word}{number}: {part.max():.3g}" for number, part in zip(numbers, maps, strict=False)]


def _spread(values: Array) -> Array:
    """From 0, the least, to 1, the most; all 0 where nothing differs."""
    low, high = float(values.min()), float(values.max())
    return np.zeros_like(values) if high <= low else (values - low) / (high - low)


def _enlarged(colours: Array) -> Picture:
    """By a whole factor, pixel by pixel; a map longer than the sheet is made to fit it."""
    height, width = colours.shape[:2]
    factor = max(1, -(-_TILE // max(height, width)))
    picture = Image.fromarray(np.ascontiguousarray(colours)).convert("RGB")
    tall = min(height * factor, 4 * _TILE) if height * factor >= 24 else 24  # a single row is to be seen as well
    return picture.resize((min(width * factor, _WIDEST), tall), Image.Resampling.NEAREST)


def _line(words: str, width: int) -> Picture:
    """One small line, broken where it is too long."""
    font, sheet = ImageFont.load_default(SMALL), Image.new("RGB", (width, 1), PAPER)
    draw, lines = ImageDraw.Draw(sheet), [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and draw.textlength(longer, font=font) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    sheet = Image.new("RGB", (width, 18 * len(lines)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((0, 18 * number), fitted(draw, line, SMALL, width), fill=QUIET, font=font)
    return sheet

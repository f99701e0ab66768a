"""A picture's attributions drawn over it: a plain overlay at the sent size, and panels side by side with a colour legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from service.codecs.geometry import Geometry, upsample
from service.explain.render.colormap import SIGNED, Scale, strengths, symmetric_scale
from service.explain.render.layer import Layer, scales
from service.explain.render.sheet import PAPER, QUIET, SMALL, below, in_font, labelled, render_grid

Array = npt.NDArray[Any]
Picture = Image.Image

_READABLE = 224
"""Pixels a side from which a picture is read without enlarging."""
_LARGEST = 640
"""Pixels a side of a figure's panel; larger pictures are shown smaller in figures, never in the plain overlay."""
_ROWS = 256
"""Rows coloured at a time: looking up the table takes eight bytes a pixel and more."""
_NEUTRAL = 127
"""The level of no attribution, and the number of levels on either side of it."""
_RAMP = 160
"""Pixels of a legend's colours."""
_WIDEST = 1400
"""Pixels of a row of panels; more of them go into the next row."""


def render_overlay(sent: Picture, attributions: Array, geometry: Geometry, colours: Scale = SIGNED, *, zoom: int = 1) -> Picture:
    """The attributions over the faded sent picture: orange speaks for the target, blue against it; magnitudes in purple.

    `sent` is upright RGB (see `codecs.picture.as_seen`), `attributions` (H, W, C) in the model's frame, summed over the
    channels. The result has exactly the sent size times `zoom`; full colour stands for the 99th percentile.
    """
    frame = attributions.sum(axis=2)  # (H, W)
    levels = upsample(_level(strengths(frame, symmetric_scale(frame))), geometry, outside=_NEUTRAL)  # (sent height, sent width)
    levels = np.minimum(levels, 2 * _NEUTRAL)  # smoothing may lead a little beyond
    grey, table = np.asarray(sent.convert("L")), _tints(colours)
    drawn = np.empty((*grey.shape, 3), np.uint8)
    for top in range(0, len(drawn), _ROWS):
        rows = slice(top, top + _ROWS)
        drawn[rows] = table[grey[rows], levels[rows]]
    return _enlarged(Image.fromarray(drawn), zoom)


def overlay_panels(sent: Picture, layers: Sequence[Layer], geometry: Geometry) -> list[tuple[str, Picture]]:
    """The sent picture, then an overlay a layer, each with its title, at a size to look at (see `panel_size`).

    A layer's attributions are (H, W, C) in the model's frame. Small pictures are enlarged by a whole factor, pixel by pixel,
    large ones shown smaller.
    """
    drawn = [("sent", sent.convert("RGB"))]
    drawn += [(layer.title, render_overlay(sent, layer.attributions, geometry, layer.colours)) for layer in layers]
    size = panel_size(sent.size)
    return [(title, picture.resize(size, _filter(picture.size, size[0]))) for title, picture in drawn]


def draw_overlays(sent: Picture, layers: Sequence[Layer], geometry: Geometry, target: str = "") -> Picture:
    """Those panels side by side as one picture, titled where there are several layers, over the legends of their scales."""
    panels = overlay_panels(sent, layers, geometry)
    shown = [panel if len(layers) == 1 else labelled(panel, title) for title, panel in panels]
    columns = max(2, min(len(shown), _WIDEST // shown[0].width))
    return below([render_grid(shown, columns), *(render_legend(scale, target) for scale in scales(tuple(layers)))], gap=10)


def panel_size(size: tuple[int, int]) -> tuple[int, int]:
    """How large a figure shows a picture of this size."""
    width, height = size
    if max(size) < _READABLE:
        factor = -(-_READABLE // max(size))
        return width * factor, height * factor
    shrink = min(1.0, _LARGEST / max(size))
    return max(1, round(width * shrink)), max(1, round(height * shrink))


def render_legend(colours: Scale = SIGNED, target: str = "") -> Picture:
    """An overlay's colours, from against the target to for it, as they look over a mid-grey picture."""
    return draw_legend(_tints(colours)[128, _level(np.linspace(colours.lowest, 1, _RAMP))], colours, target)


def draw_legend(ramp: Array, colours: Scale, target: str = "") -> Picture:
    """A row of colours, (pixels, 3) uint8, between the words for its two ends."""
    font = ImageFont.load_default(SMALL)
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    low, high = map(in_font, colours.ends(target))
    before, behind = (math.ceil(measure.textlength(words, font=font)) for words in (low, high))
    sheet = Image.new("RGB", (before + len(ramp) + behind + 18, 20), PAPER)
    draw, x = ImageDraw.Draw(sheet), before + 8
    draw.text((0, 0), low, fill=QUIET, font=font)
    sheet.paste(Image.fromarray(np.tile(ramp, (12, 1, 1))), (x, 3))
    draw.rectangle((x - 1, 2, x + len(ramp), 15), outline=(200, 200, 200))
    draw.text((x + len(ramp) + 8, 0), high, fill=QUIET, font=font)
    return sheet


def _tints(colours: Scale) -> Array:
    """Colours by grey value and level of strength, (256, levels, 3): the picture without colour and with a third of its
    contrast, under a tint as strong as the value. A table, since a photo has more pixels than there are such pairs."""
    values = np.linspace(-1, 1, 2 * _NEUTRAL + 1)[None, :]  # (1, levels)
    faded = 140 + (np.arange(256.0)[:, None] - 128) * 0.36  # (256, 1)
    cover = np.sqrt(np.abs(values))[..., None] * 0.94  # (1, levels, 1)
    hue = np.sign(values) * (0.45 + 0.35 * np.abs(values))  # never the pale middle of the scale: paleness is the cover's part
    return np.asarray((faded[..., None] * (1 - cover) + colours.colours(hue) * cover).round().astype(np.uint8))


def _level(values: Array) -> Array:
    """Where values from -1 to 1 stand in the table, uint8."""
    return np.asarray((values * _NEUTRAL).round() + _NEUTRAL, np.uint8)


def _enlarged(picture: Picture, zoom: int) -> Picture:
    return picture if zoom == 1 else picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)


def _filter(size: tuple[int, int], width: int) -> Image.Resampling:
    return Image.Resampling.NEAREST if width >= size[0] else Image.Resampling.LANCZOS

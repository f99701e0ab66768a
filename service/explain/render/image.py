"""A picture's attributions drawn over it: a plain overlay at the sent size, and figures with captions and a colour legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from service.codecs.geometry import Geometry, upsample
from service.explain.render.colormap import diverging, strengths, symmetric_scale

Array = npt.NDArray[Any]
Picture = Image.Image

INK = (34, 34, 34)
QUIET = (110, 110, 110)
PAPER = (255, 255, 255)
_READABLE = 224
"""Pixels a side from which a picture is read without enlarging."""
_LARGEST = 640
"""Pixels a side of a figure's panel; larger pictures are shown smaller in figures, never in the plain overlay."""
_ROWS = 256
"""Rows coloured at a time: looking up the table takes eight bytes a pixel and more."""
_NEUTRAL = 127
"""The level of no attribution, and the number of levels on either side of it."""
_MARGIN = 12


@dataclass(frozen=True, slots=True)
class Caption:
    """What a figure says: the first line large, the others small."""

    title: str
    lines: tuple[str, ...] = ()


def render_overlay(sent: Picture, attributions: Array, geometry: Geometry, *, scale: int = 1) -> Picture:
    """The attributions over the faded sent picture: orange speaks for the target, blue against it.

    `sent` is upright RGB (see `codecs.picture.as_seen`), `attributions` (H, W, C) in the model's frame, summed over the
    channels. The result has exactly the sent size times `scale`; full colour stands for the 99th percentile.
    """
    frame = attributions.sum(axis=2)  # (H, W)
    levels = upsample(_level(strengths(frame, symmetric_scale(frame))), geometry, outside=_NEUTRAL)  # (sent height, sent width)
    levels = np.minimum(levels, 2 * _NEUTRAL)  # smoothing may lead a little beyond
    grey, table = np.asarray(sent.convert("L")), _tints()
    drawn = np.empty((*grey.shape, 3), np.uint8)
    for top in range(0, len(drawn), _ROWS):
        rows = slice(top, top + _ROWS)
        drawn[rows] = table[grey[rows], levels[rows]]
    return _enlarged(Image.fromarray(drawn), scale)


def render_figure(sent: Picture, attributions: Array, geometry: Geometry, caption: Caption) -> Picture:
    """The sent picture and the overlay side by side, with a caption above and the colour legend below.

    Small pictures are enlarged by a whole factor, pixel by pixel, large ones shown smaller.
    """
    panels = render_panels(sent, attributions, geometry)
    width, height = panels[0].size
    top = _MARGIN + 24 + 18 * len(caption.lines) + 8
    sheet = Image.new("RGB", (max(3 * _MARGIN + 2 * width, 2 * _MARGIN + 460), top + height + 44), PAPER)
    draw = ImageDraw.Draw(sheet)
    room = sheet.width - 2 * _MARGIN
    draw.text((_MARGIN, _MARGIN), fitted(draw, caption.title, 18, room), fill=INK, font=ImageFont.load_default(18))
    for number, line in enumerate(caption.lines):
        draw.text((_MARGIN, _MARGIN + 26 + 18 * number), fitted(draw, line, 13, room), fill=QUIET, font=ImageFont.load_default(13))
    for number, panel in enumerate(panels):
        sheet.paste(panel, (_MARGIN + number * (width + _MARGIN), top))
    sheet.paste(render_legend(), (_MARGIN, top + height + 10))
    return sheet


def render_panels(sent: Picture, attributions: Array, geometry: Geometry) -> tuple[Picture, Picture]:
    """The sent picture and the overlay at a size to look at (see `panel_size`)."""
    overlay = render_overlay(sent, attributions, geometry)
    size = panel_size(sent.size)
    shown, drawn = (picture.convert("RGB").resize(size, _filter(picture.size, size[0])) for picture in (sent, overlay))
    return shown, drawn


def render_grid(figures: Sequence[Picture], columns: int | None = None) -> Picture:
    """Pictures in rows, each at the top left of a cell of the largest one's size; by default about as many columns as rows."""
    columns = columns or max(1, round(len(figures) ** 0.5))
    width, height = max(figure.width for figure in figures), max(figure.height for figure in figures)
    rows = -(-len(figures) // columns)
    sheet = Image.new("RGB", (columns * width + (columns - 1) * _MARGIN, rows * height + (rows - 1) * _MARGIN), PAPER)
    for number, figure in enumerate(figures):
        sheet.paste(figure, (number % columns * (width + _MARGIN), number // columns * (height + _MARGIN)))
    return sheet


def panel_size(size: tuple[int, int]) -> tuple[int, int]:
    """How large a figure shows a picture of this size."""
    width, height = size
    if max(size) < _READABLE:
        factor = -(-_READABLE // max(size))
        return width * factor, height * factor
    shrink = min(1.0, _LARGEST / max(size))
    return max(1, round(width * shrink)), max(1, round(height * shrink))


def render_legend() -> Picture:
    """The overlay's colours, from against the target to for it, as they look over a mid-grey picture."""
    sheet = Image.new("RGB", (270, 20), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    draw.text((0, 0), "against", fill=QUIET, font=font)
    x = round(draw.textlength("against", font=font)) + 8
    ramp = np.tile(_tints()[128, _level(np.linspace(-1, 1, 160))], (12, 1, 1))
    sheet.paste(Image.fromarray(ramp), (x, 3))
    draw.rectangle((x - 1, 2, x + 160, 15), outline=(200, 200, 200))
    draw.text((x + 168, 0), "for", fill=QUIET, font=font)
    return sheet


def fitted(draw: ImageDraw.ImageDraw, text: str, size: int, room: float) -> str:
    """The text, shortened with an ellipsis where it is wider than `room` pixels."""
    font = ImageFont.load_default(size)
    if draw.textlength(text, font=font) <= room:
        return text
    while text and draw.textlength(text + "...", font=font) > room:
        text = text[:-1]
    return text + "..."


def _tints() -> Array:
    """Colours by grey value and level of strength, (256, levels, 3): the picture without colour and with a third of its
    contrast, under a tint as strong as the value. A table, since a photo has more pixels than there are such pairs."""
    values = np.linspace(-1, 1, 2 * _NEUTRAL + 1)[None, :]  # (1, levels)
    faded = 140 + (np.arange(256.0)[:, None] - 128) * 0.36  # (256, 1)
    cover = np.sqrt(np.abs(values))[..., None] * 0.94  # (1, levels, 1)
    hue = np.sign(values) * (0.45 + 0.35 * np.abs(values))  # never the pale middle of the scale: paleness is the cover's part
    return np.asarray((faded[..., None] * (1 - cover) + diverging(hue) * cover).round().astype(np.uint8))


def _level(values: Array) -> Array:
    """Where values from -1 to 1 stand in the table, uint8."""
    return np.asarray((values * _NEUTRAL).round() + _NEUTRAL, np.uint8)


def _enlarged(picture: Picture, scale: int) -> Picture:
    return picture if scale == 1 else picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def _filter(size: tuple[int, int], width: int) -> Image.Resampling:
    return Image.Resampling.NEAREST if width >= size[0] else Image.Resampling.LANCZOS

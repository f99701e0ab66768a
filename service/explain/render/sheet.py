"""Sheets of paper: captions, pictures beside and below each other, words that fit. What all drawn answers are put together with."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

Picture = Image.Image

INK = (34, 34, 34)
QUIET = (110, 110, 110)
PAPER = (255, 255, 255)
MARGIN = 12
SMALL = 13
_LARGE = 18
_LINE = 18
_NARROWEST = 484
"""Pixels; a caption needs some room even over a small picture."""


@dataclass(frozen=True, slots=True)
class Caption:
    """What a figure says: the first line large, the others small."""

    title: str
    lines: tuple[str, ...] = ()


def titled(body: Picture, caption: Caption) -> Picture:
    """The body under its caption, with a margin around both."""
    top = MARGIN + 24 + _LINE * len(caption.lines) + 8
    sheet = Image.new("RGB", (max(body.width + 2 * MARGIN, _NARROWEST), top + body.height + MARGIN), PAPER)
    draw, room = ImageDraw.Draw(sheet), sheet.width - 2 * MARGIN
    draw.text((MARGIN, MARGIN), fitted(draw, caption.title, _LARGE, room), fill=INK, font=ImageFont.load_default(_LARGE))
    for number, line in enumerate(caption.lines):
        place = (MARGIN, MARGIN + 26 + _LINE * number)
        draw.text(place, fitted(draw, line, SMALL, room), fill=QUIET, font=ImageFont.load_default(SMALL))
    sheet.paste(body, (MARGIN, top))
    return sheet


def labelled(body: Picture, label: str, indent: int = 0) -> Picture:
    """The body under one small line, which starts `indent` pixels from the left."""
    sheet = Image.new("RGB", (body.width, body.height + 20), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((indent, 1), fitted(draw, label, SMALL, sheet.width - indent), fill=INK, font=ImageFont.load_default(SMALL))
    sheet.paste(body, (0, 20))
    return sheet


def below(pictures: Sequence[Picture], gap: int = MARGIN) -> Picture:
    """Pictures under one another, flush left."""
    sheet = Image.new("RGB", (max(p.width for p in pictures), sum(p.height + gap for p in pictures) - gap), PAPER)
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height + gap
    return sheet


def render_grid(figures: Sequence[Picture], columns: int | None = None, gap: int = MARGIN) -> Picture:
    """Pictures in rows, each at the top left of a cell of the largest one's size; by default about as many columns as rows."""
    columns = columns or max(1, round(len(figures) ** 0.5))
    columns = min(columns, len(figures))
    width, height = max(figure.width for figure in figures), max(figure.height for figure in figures)
    rows = -(-len(figures) // columns)
    sheet = Image.new("RGB", (columns * width + (columns - 1) * gap, rows * height + (rows - 1) * gap), PAPER)
    for number, figure in enumerate(figures):
        sheet.paste(figure, (number % columns * (width + gap), number // columns * (height + gap)))
    return sheet


def in_font(text: str) -> str:
    """The text in compatibility characters: the font has no ³, but a 3."""
    return unicodedata.normalize("NFKC", text)


def fitted(draw: ImageDraw.ImageDraw, text: str, size: int, room: float) -> str:
    """The text, shortened with an ellipsis where it is wider than `room` pixels."""
    font, text = ImageFont.load_default(size), in_font(text)
    if draw.textlength(text, font=font) <= room:
        return text
    while text and draw.textlength(text + "...", font=font) > room:
        text = text[:-1]
    return text + "..."

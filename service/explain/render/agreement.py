"""The rank correlations of several methods as a small coloured matrix: for a page and as a picture."""

from __future__ import annotations

from html import escape

from PIL import Image, ImageDraw, ImageFont

from service.explain.agreement import Agreement
from service.explain.render.colormap import SIGNED, Colour, hex_of, ink_on
from service.explain.render.sheet import INK, PAPER, QUIET, SMALL, Picture, fitted, labelled

_TITLE = "rank correlation of the methods (1: the same order, 0: none in common)"
_NAMES, _CELL, _ROW = 180, 76, 24


def render_agreement(agreement: Agreement) -> str:
    """An HTML table; the numbers of its header are those before the methods' names."""
    numbers = "".join(f'<th style="text-align:center">{number}</th>' for number in range(1, len(agreement.methods) + 1))
    rows = "".join(
        f"<tr><th>{number}. {escape(_words(method))}</th>{''.join(map(_cell_html, values))}</tr>"
        for number, (method, values) in enumerate(zip(agreement.methods, agreement.spearman, strict=True), start=1)
    )
    return f"<table><caption>{_TITLE}</caption><tr><th></th>{numbers}</tr>{rows}</table>"


def draw_agreement(agreement: Agreement) -> Picture:
    """The same as a picture."""
    count = len(agreement.methods)
    sheet = Image.new("RGB", (max(_NAMES + _CELL * count, 440), _ROW * (count + 1)), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(SMALL)
    for row, (method, values) in enumerate(zip(agreement.methods, agreement.spearman, strict=True)):
        y, x = _ROW * (row + 1), _NAMES + _CELL * row
        draw.text((x + _CELL / 2, _ROW / 2), f"{row + 1}", fill=QUIET, font=font, anchor="mm")
        draw.text((0, y + _ROW / 2), fitted(draw, f"{row + 1}. {_words(method)}", SMALL, _NAMES - 6), fill=INK, font=font, anchor="lm")
        for column, value in enumerate(values):
            left, colour = _NAMES + _CELL * column, _colour(value)
            draw.rectangle((left, y, left + _CELL - 2, y + _ROW - 2), fill=colour)
            draw.text((left + _CELL / 2, y + _ROW / 2), _number(value), fill=ink_on(colour), font=font, anchor="mm")
    return labelled(sheet, _TITLE)


def _cell_html(value: float | None) -> str:
    colour = _colour(value)
    style = f"background:{hex_of(colour)};color:{hex_of(ink_on(colour))};text-align:center;padding:.2rem .8rem"
    return f'<td style="{style}">{_number(value)}</td>'


def _colour(value: float | None) -> Colour:
    return PAPER if value is None else SIGNED.colour_of(0.7 * value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _words(method: str) -> str:
    return method.replace("_", " ")

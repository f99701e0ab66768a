"""A text with its words coloured by attribution: an HTML fragment, and colours for the terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from service.codecs.text import Token
from service.explain.render.colormap import SIGNED, Scale, hex_of, ink_on, symmetric_scale

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Characters that a terminal acts on and a page must not hold; tab and newline stay."""
_RESET = "\x1b[0m"
_STRONGEST = 0.8
"""How far along the colour scale the strongest word goes, so that its letters stay readable."""
_FAINT = 0.06
"""Below this a terminal shows the word as it is: an almost white patch on a dark terminal would catch the eye most."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of the text; `value` is None for what lies between tokens and behind the cut."""

    text: str
    value: float | None = None
    unread: bool = False


def render_text(
    text: str,
    tokens: Sequence[Token | None],
    attributions: Sequence[float],
    truncated_at: int | None = None,
    *,
    colours: Scale = SIGNED,
    target: str = "",
) -> str:
    """A self-contained fragment: the text as sent, each token on a background as its attribution has it, the number as its
    tooltip, what the model didn't read greyed, and the legend. `attributions` is one number a token."""
    pieces, unplaced = _pieces(text, tokens, attributions, truncated_at)
    scale = _scale(pieces)
    marked = "".join(_as_html(piece, scale, colours) for piece in pieces)
    notes = _note(unplaced, truncated_at)
    legend = f'<div style="margin:.8em 0;font-size:.85em;color:#666">{legend_html(colours, target)}{notes}</div>'
    return f'<div><p dir="auto" style="white-space:pre-wrap;line-height:1.9;font-size:1.1em">{marked}</p>{legend}</div>'


def render_ansi(
    text: str,
    tokens: Sequence[Token | None],
    attributions: Sequence[float],
    truncated_at: int | None = None,
    *,
    colours: Scale = SIGNED,
) -> str:
    """The same for a terminal with 24-bit colours; control characters of the text are shown as replacement characters."""
    pieces, _ = _pieces(text, tokens, attributions, truncated_at)
    scale = _scale(pieces)
    return "".join(_as_ansi(piece, scale, colours) for piece in pieces)


def ansi_legend(colours: Scale = SIGNED, target: str = "") -> str:
    """The colour scale for a terminal, its ends named."""
    low, high = (clean(words) for words in colours.ends(target))
    steps = np.linspace(-_STRONGEST if colours.signed else 0.0, _STRONGEST, 9)
    return f"{low} {''.join(painted('  ', float(step), colours) for step in steps)} {high}"


def legend_html(colours: Scale = SIGNED, target: str = "") -> str:
    """The colour scale as used for text and bars, with its ends named."""
    low, high = colours.ends(target)
    steps = np.linspace(-_STRONGEST if colours.signed else 0.0, _STRONGEST, 9)
    stops = ",".join(hex_of(colours.colour_of(step)) for step in steps)
    style = f"display:inline-block;width:10em;height:.8em;margin:0 .5em;border:1px solid #ccc;background:linear-gradient(90deg,{stops})"
    return f'{escape(clean(low))}<span style="{style}"></span>{escape(clean(high))}'


def _pieces(
    text: str, tokens: Sequence[Token | None], attributions: Sequence[float], truncated_at: int | None
) -> tuple[list[_Piece], float]:
    """The text cut at its tokens, in order, and the sum of the attributions that have no place in it (special tokens).

    A token whose span is taken already (a normaliser may make two tokens of one stretch) adds to the piece that has it.
    """
    pieces: list[_Piece] = []
    position, unplaced = 0, 0.0
    for token, value in zip(tokens, attributions, strict=True):
        start = None if token is None else max(token.start, position)
        if token is None or start is None or start >= token.end:
            last = pieces[-1] if token is not None and token.end > token.start and pieces else None
            if last is None or last.value is None:
                unplaced += value
            else:
                pieces[-1] = _Piece(last.text, last.value + value)
            continue
        if start > position:
            pieces.append(_Piece(text[position:start]))
        pieces.append(_Piece(text[start : token.end], float(value)))
        position = token.end
    if position < len(text):
        pieces.append(_Piece(text[position:], unread=truncated_at is not None))
    return pieces, unplaced


def _scale(pieces: Sequence[_Piece]) -> float:
    return symmetric_scale(np.array([piece.value for piece in pieces if piece.value is not None], float)) / _STRONGEST


def _as_html(piece: _Piece, scale: float, colours: Scale) -> str:
    words = escape(clean(piece.text))
    if piece.unread:
        return f'<span style="color:#aaa" title="not read by the model">{words}</span>'
    if piece.value is None:
        return words
    colour = colours.colour_of(_position(piece.value, scale))
    style = f"background:{hex_of(colour)};color:{hex_of(ink_on(colour))};padding:.15em 0;border-radius:.2em"
    return f'<span style="{style}" title="{piece.value:+.4g}">{words}</span>'


def _as_ansi(piece: _Piece, scale: float, colours: Scale) -> str:
    if piece.unread:
        return f"\x1b[2m{clean(piece.text)}{_RESET}"
    value = 0.0 if piece.value is None else _position(piece.value, scale)
    return painted(clean(piece.text), value, colours) if abs(value) >= _FAINT else clean(piece.text)


def painted(words: str, value: float, colours: Scale) -> str:
    """The words on the colour of a value, for a terminal."""
    colour = colours.colour_of(value)
    back, ink = (";".join(map(str, rgb)) for rgb in (colour, ink_on(colour)))
    return f"\x1b[48;2;{back}m\x1b[38;2;{ink}m{words}{_RESET}"


def _position(value: float, scale: float) -> float:
    return float(np.clip(np.nan_to_num(value / scale), -_STRONGEST, _STRONGEST))


def clean(words: str) -> str:
    """The words with replacement characters for what a terminal would act on."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", words)


def _note(unplaced: float, truncated_at: int | None) -> str:
    notes = []
    if unplaced:
        notes.append(f"special tokens: {unplaced:+.4g}")
    if truncated_at is not None:
        notes.append(f"the model read the text up to character {truncated_at}")
    return "".join(f" &middot; {note}" for note in notes)

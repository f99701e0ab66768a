"""A sound's spectrogram with its attributions below it: time-aligned, summed over the samples that each pixel column spans.

A model that hears samples attributes to samples, and a sample has a time and no frequency: so nothing is spread over the
spectrogram's frequencies here; what spoke for and against is read by its time alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from service.codecs.spectrogram import Frames, decibels
from service.explain.render.colormap import symmetric_scale
from service.explain.render.image import draw_legend
from service.explain.render.layer import Layer, scales
from service.explain.render.sheet import PAPER, QUIET, Picture, below, labelled

Array = npt.NDArray[Any]

_WIDTH, _HEIGHT, _STRIP = 640, 200, 72
_LEFT, _RIGHT = 52, 12
"""Pixels for the frequencies' numbers, and behind the last second's."""
_GREY = (205, 205, 205)
_STRONGEST = 0.8
"""How far along the colour scale the strongest bar goes."""
_COLUMN_SECONDS = 0.01
"""What one bar of a strip spans at least: sums over less than a period of the voice only show the wave's own swing."""


def draw_sound(samples: Array, rate: int, layers: Sequence[Layer], target: str = "", heard: int | None = None) -> Picture:
    """The spectrogram of `samples` (T,) at `rate` Hz, a strip of bars a layer on the same time axis, and the legends.

    A bar is the sum of the attributions (T,) of the samples it spans, so that a strip's bars add up to the layer's own sum.
    From sample `heard` on there is nothing but padding, which is shaded.
    """
    seconds = len(samples) / rate
    parts = [_spectrogram(samples, rate), *(_strip(layer, rate, seconds) for layer in layers)]
    if heard is not None and heard < len(samples):
        for part in parts:
            _shade(part, heard / len(samples))
    titled = [labelled(part, layer.title, _LEFT) if layer.title else part for part, layer in zip(parts[1:], layers, strict=True)]
    legends = [draw_legend(scale.colours(np.linspace(scale.lowest, 1, 160) * _STRONGEST), scale, target) for scale in scales(tuple(layers))]
    return below([parts[0], *titled, _time_axis(seconds), *legends], gap=6)


def time_sums(attributions: Array, rate: int) -> tuple[Array, float]:
    """Sums over consecutive stretches of the samples' attributions, (stretches,), and how many seconds a stretch spans."""
    span = max(1, round(max(_COLUMN_SECONDS * rate, len(attributions) / _WIDTH)))
    sums = np.add.reduceat(np.asarray(attributions, float), np.arange(0, len(attributions), span))
    return sums, span / rate


def _spectrogram(samples: Array, rate: int) -> Picture:
    """Dark where it is loud, low frequencies at the bottom, with a scale in kHz."""
    frames = Frames.of_rate(rate)
    levels = decibels(frames.transform(samples)) / 70 + 1  # (frequencies, frames), 0 to 1
    grey = Image.fromarray((255 - 225 * levels[::-1]).astype(np.uint8))
    # Frame f is centred at f hops: half a hop is cut off on the left, and what hangs over on the right.
    box = (0.5, 0.0, min(0.5 + len(samples) / frames.hop, grey.width), float(grey.height))
    sheet = _paper(_HEIGHT)
    sheet.paste(grey.resize((_WIDTH, _HEIGHT), Image.Resampling.BILINEAR, box=box), (_LEFT, 0))
    draw = ImageDraw.Draw(sheet)
    for hertz in _ticks(rate / 2, 4):
        y = _HEIGHT * (1 - hertz / (rate / 2))
        draw.line((_LEFT - 4, y, _LEFT - 1, y), fill=QUIET)
        unit = " kHz" if hertz + _step(rate / 2, 4) > rate / 2 else ""
        draw.text((_LEFT - 7, min(max(y, 8), _HEIGHT - 8)), f"{hertz / 1000:g}{unit}", fill=QUIET, font=_font(11), anchor="rm")
    draw.rectangle((_LEFT - 1, 0, _LEFT + _WIDTH, _HEIGHT - 1), outline=_GREY)
    return sheet


def _strip(layer: Layer, rate: int, seconds: float) -> Picture:
    """Bars upwards for the target and downwards against it; magnitudes upwards only."""
    sums, span = time_sums(layer.attributions.reshape(-1), rate)
    sheet = _paper(_STRIP)
    draw = ImageDraw.Draw(sheet)
    highest = float(np.abs(sums).max(initial=0.0)) or 1.0
    base, reach = (_STRIP / 2, _STRIP / 2 - 3) if layer.colours.signed else (_STRIP - 2, _STRIP - 6)
    drawn_at_full = symmetric_scale(sums)
    for number, value in enumerate(sums.tolist()):
        left, right = (_LEFT + _WIDTH * min(1.0, edge * span / seconds) for edge in (number, number + 1))
        tip = base - value / highest * reach
        strength = float(np.clip(value / drawn_at_full, -1, 1))
        colour = layer.colours.colour_of(np.sign(strength) * (0.35 + (_STRONGEST - 0.35) * abs(strength)))
        if value:
            draw.rectangle((left, min(base, tip), max(left, right - 1), max(base, tip)), fill=colour)
    draw.line((_LEFT, base, _LEFT + _WIDTH, base), fill=_GREY)
    highest = float(f"{highest:.2g}")  # two digits
    ends = ((f"{highest:+g}", 8), (f"{-highest:+g}", _STRIP - 8)) if layer.colours.signed else ((f"{highest:g}", 8),)
    for words, y in ends:
        draw.text((_LEFT - 7, y), words, fill=QUIET, font=_font(11), anchor="rm")
    draw.rectangle((_LEFT - 1, 0, _LEFT + _WIDTH, _STRIP - 1), outline=_GREY)
    return sheet


def _time_axis(seconds: float) -> Picture:
    sheet = _paper(16)
    draw = ImageDraw.Draw(sheet)
    for at in _ticks(seconds, 8):
        x = _LEFT + _WIDTH * at / seconds
        anchor = "lt" if at == 0 else "rt" if x > _LEFT + _WIDTH - 12 else "mt"
        draw.text((x, 2), f"{at:g} s", fill=QUIET, font=_font(11), anchor=anchor)
    return sheet


def _shade(sheet: Picture, share: float) -> None:
    """Hatches what lies behind the sound's end."""
    draw, left = ImageDraw.Draw(sheet), _LEFT + _WIDTH * share
    for x in range(int(left), _LEFT + _WIDTH, 6):
        draw.line((x, 2, x, sheet.height - 3), fill=(238, 238, 238))
    draw.line((left, 0, left, sheet.height), fill=_GREY)


def _ticks(end: float, most: int) -> Iterator[float]:
    """From 0 to `end` in steps of 1, 2 or 5 times a power of ten, about `most` of them."""
    step = _step(end, most)
    for number in range(int(end / step + 1e-9) + 1):
        yield round(number * step, 9)


def _step(end: float, most: int) -> float:
    power = 10.0 ** np.floor(np.log10(end / most))
    return float(next(power * times for times in (1, 2, 5, 10) if end / (power * times) <= most))


def _paper(height: int) -> Picture:
    return Image.new("RGB", (_LEFT + _WIDTH + _RIGHT, height), PAPER)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)

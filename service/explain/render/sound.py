"""A sound's spectrogram with its attributions below it, time-aligned: by time and frequency where that is known, and by time.

The strip of bars sums a layer's attributions over the samples that each bar spans. A sample has a time and no frequency, so
nothing is spread over frequencies by guess: the map above a strip is drawn only of patches that the method itself took away,
or where the samples' attributions can be told of their spectra exactly (see `time_frequency`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from service.codecs.spectrogram import Frames, decibels
from service.explain.render.colormap import strengths, symmetric_scale
from service.explain.render.image import draw_legend
from service.explain.render.layer import Layer, scales
from service.explain.render.sheet import PAPER, QUIET, Picture, below, labelled
from service.explain.render.time_frequency import TimeFrequency

Array = npt.NDArray[Any]

_WIDTH, _HEIGHT, _STRIP = 640, 200, 72
_LEFT, _RIGHT = 52, 12
"""Pixels for the frequencies' numbers, and behind the last second's."""
_GREY = (205, 205, 205)
_GAP = 6
_DECIBELS = 70
_STRONGEST = 0.8
"""How far along the colour scale the strongest value goes."""
_COLUMN_SECONDS = 0.01
"""What one bar of a strip spans at least: sums over less than a period of the voice only show the wave's own swing."""


def draw_sound(
    samples: Array,
    rate: int,
    layers: Sequence[Layer],
    target: str = "",
    heard: int | None = None,
    maps: Sequence[TimeFrequency | None] = (),
) -> Picture:
    """The spectrogram of `samples` (T,) at `rate` Hz, for each layer its map, where there is one in `maps`, over its strip of
    bars, all on one time axis, and the legends.

    A bar is the sum of the attributions (T,) of the samples it spans, so that a strip's bars add up to the layer's own sum.
    From sample `heard` on there is nothing but padding, which is shaded.
    """
    seconds = len(samples) / rate
    levels = decibels(Frames.of_rate(rate).transform(samples)) / _DECIBELS + 1  # (frequencies, frames), 0 to 1
    silence = None if heard is None or heard >= len(samples) else heard / len(samples)
    drawn = [_shaded(_spectrogram(levels, len(samples), rate), silence)]
    for layer, by_frequency in zip_longest(layers, maps[: len(layers)]):
        parts = [_shaded(_strip(layer, rate, seconds), silence)]
        if by_frequency is not None:
            parts.insert(0, _shaded(_map(by_frequency, layer, levels, seconds, rate), silence))
        drawn.append(labelled(below(parts, _GAP), layer.title, _LEFT) if layer.title else below(parts, _GAP))
    legends = [draw_legend(scale.colours(np.linspace(scale.lowest, 1, 160) * _STRONGEST), scale, target) for scale in scales(tuple(layers))]
    return below([*drawn, _time_axis(seconds), *legends], _GAP)


def time_sums(attributions: Array, rate: int) -> tuple[Array, float]:
    """Sums over consecutive stretches of the samples' attributions, (stretches,), and how many seconds a stretch spans."""
    span = max(1, round(max(_COLUMN_SECONDS * rate, len(attributions) / _WIDTH)))
    sums = np.add.reduceat(np.asarray(attributions, float), np.arange(0, len(attributions), span))
    return sums, span / rate


def _spectrogram(levels: Array, samples: int, rate: int) -> Picture:
    """Dark where it is loud, low frequencies at the bottom, with a scale in kHz."""
    return _framed(_stretched(255 - 225 * levels, samples, rate).convert("RGB"), rate)


def _map(by_frequency: TimeFrequency, layer: Layer, levels: Array, seconds: float, rate: int) -> Picture:
    """The values in colour, as blocks where they are blocks, over the pale spectrogram."""
    values = by_frequency.at(_middles(_WIDTH) * seconds, _middles(_HEIGHT)[::-1] * rate / 2)  # (pixels down, across)
    strength = strengths(values, symmetric_scale(by_frequency.values))
    pale = np.asarray(_stretched(250 - 90 * levels, round(seconds * rate), rate), float)[..., None]
    cover = np.sqrt(np.abs(strength))[..., None] * 0.9
    colours = layer.colours.colours(np.sign(strength) * (0.35 + (_STRONGEST - 0.35) * np.abs(strength)))
    return _framed(Image.fromarray((pale * (1 - cover) + colours * cover).astype(np.uint8)), rate)


def _stretched(grey: Array, samples: int, rate: int) -> Picture:
    """A spectrogram's grey values (frequencies, frames), 0 to 255, at the size of a panel."""
    hop = Frames.of_rate(rate).hop
    # Frame f is centred at f hops: half a hop is cut off on the left, and what hangs over on the right.
    box = (0.5, 0.0, min(0.5 + samples / hop, grey.shape[1]), float(grey.shape[0]))
    return Image.fromarray(grey[::-1].astype(np.uint8)).resize((_WIDTH, _HEIGHT), Image.Resampling.BILINEAR, box=box)


def _framed(panel: Picture, rate: int) -> Picture:
    """The panel with a scale in kHz."""
    sheet = _paper(_HEIGHT)
    sheet.paste(panel, (_LEFT, 0))
    draw = ImageDraw.Draw(sheet)
    for hertz in _ticks(rate / 2, 4):
        y = _HEIGHT * (1 - hertz / (rate / 2))
        draw.line((_LEFT - 4, y, _LEFT - 1, y), fill=QUIET)
        unit = " kHz" if hertz + _step(rate / 2, 4) > rate / 2 else ""
        draw.text((_LEFT - 7, min(max(y, 8), _HEIGHT - 8)), f"{hertz / 1000:g}{unit}", fill=QUIET, font=_font(11), anchor="rm")
    draw.rectangle((_LEFT - 1, 0, _LEFT + _WIDTH, _HEIGHT - 1), outline=_GREY)
    return sheet


def _middles(pixels: int) -> Array:
    return (np.arange(pixels) + 0.5) / pixels


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


def _shaded(sheet: Picture, share: float | None) -> Picture:
    """The sheet, hatched from that share of the time on, behind the sound's end."""
    if share is not None:
        draw, left = ImageDraw.Draw(sheet), _LEFT + _WIDTH * share
        for x in range(int(left), _LEFT + _WIDTH, 6):
            draw.line((x, 2, x, sheet.height - 3), fill=(238, 238, 238))
        draw.line((left, 0, left, sheet.height), fill=_GREY)
    return sheet


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

"""A generated picture with what drove it: the most important latent dimensions and the class's share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.explain.render.bars import Bar, draw_bars, largest, render_bars
from service.explain.render.image import PAPER, Caption, panel_size
from service.explain.render.page import image_html
from service.manifest import Input

Array = npt.NDArray[Any]

_LIMIT = 12
_GAP = 16


def latent_bars(inputs: Sequence[Input], values: Mapping[str, Array], attributions: Mapping[str, Array], limit: int = _LIMIT) -> list[Bar]:
    """One bar a dimension of each input, `values` and `attributions` by input without the batch axis; a class is one bar.

    Attributions of a class that stand at its one-hot form are summed. Beyond `limit` the rest is one bar.
    """
    bars: list[Bar] = []
    for declared in inputs:
        if declared.name in attributions:
            bars += _bars_of(declared, np.asarray(values[declared.name]), np.asarray(attributions[declared.name], float))
    return largest(bars, limit)


def class_share(attributions: Mapping[str, Array], name: str) -> float:
    """The input's share of all that moved the output: its magnitude over the sum of all magnitudes, 0 to 1."""
    moved = {key: float(np.abs(value).sum()) if key != name else abs(float(np.sum(value))) for key, value in attributions.items()}
    total = sum(moved.values())
    return moved[name] / total if total else 0.0


def render_latent(picture: Array, bars: Sequence[Bar], alt: str) -> str:
    """The generated picture (H, W) or (H, W, C) uint8, enlarged, beside its bars: an HTML fragment."""
    shown = _enlarged(picture)
    return (
        '<div style="display:flex;gap:1.5em;flex-wrap:wrap;align-items:flex-start">'
        f'{image_html(shown, alt)}<div style="flex:1;min-width:20em">{render_bars(bars)}</div></div>'
    )


def draw_latent(picture: Array, bars: Sequence[Bar], caption: Caption) -> Image.Image:
    """The same as one picture."""
    shown, chart = _enlarged(picture), draw_bars(bars, caption)
    sheet = Image.new("RGB", (shown.width + _GAP + chart.width, max(shown.height + 2 * _GAP, chart.height)), PAPER)
    sheet.paste(shown, (_GAP, _GAP))
    sheet.paste(chart, (shown.width + _GAP, 0))
    return sheet


def _bars_of(declared: Input, values: Array, attributions: Array) -> list[Bar]:
    if declared.labels and values.size == 1:
        return [Bar(declared.name, declared.labels[int(values.item())], float(attributions.sum()))]
    flat = zip(np.ndindex(values.shape), values.ravel(), attributions.reshape(values.shape).ravel(), strict=True)
    return [Bar(f"{declared.name}{list(place)}" if place else declared.name, f"{value:.3g}", float(a)) for place, value, a in flat]


def _enlarged(picture: Array) -> Image.Image:
    plain = picture[:, :, 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
    image = Image.fromarray(np.ascontiguousarray(plain)).convert("RGB")
    return image.resize(panel_size(image.size), Image.Resampling.NEAREST)

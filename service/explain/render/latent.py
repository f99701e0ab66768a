"""Numbers that aren't a picture, a text or a table: a bar each, and beside a generated picture what drove it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.explain.render.bars import ALONE, Bar, Column, draw_bars, render_bars
from service.explain.render.image import panel_size
from service.explain.render.page import image_html
from service.explain.render.sheet import PAPER, Picture
from service.manifest import Input

Array = npt.NDArray[Any]

_GAP = 16


def number_bars(declared: Input, values: Array, attributions: Sequence[Array]) -> list[Bar]:
    """One bar an element of the input's tensor, without batch axis, with its attribution by each method; a class is one bar.

    Attributions of a class that stand at its one-hot form are summed.
    """
    if declared.labels and values.size == 1:
        return [Bar(declared.name, declared.labels[int(values.item())], tuple(float(np.sum(part)) for part in attributions))]
    parts = np.stack([np.asarray(part, float).reshape(values.shape).ravel() for part in attributions], axis=-1)  # (elements, methods)
    named = zip(np.ndindex(values.shape), values.ravel(), parts.tolist(), strict=True)
    return [Bar(f"{declared.name}{list(place)}" if place else declared.name, f"{value:.3g}", tuple(p)) for place, value, p in named]


def class_share(attributions: Mapping[str, Array], name: str) -> float:
    """The input's share of all that moved the output: its magnitude over the sum of all magnitudes, 0 to 1."""
    moved = {key: float(np.abs(value).sum()) if key != name else abs(float(np.sum(value))) for key, value in attributions.items()}
    total = sum(moved.values())
    return moved[name] / total if total else 0.0


def render_latent(picture: Array, bars: Sequence[Bar], alt: str, columns: Sequence[Column] = ALONE) -> str:
    """The generated picture (H, W) or (H, W, C) uint8, enlarged, beside its bars: an HTML fragment."""
    shown = _enlarged(picture)
    return (
        '<div style="display:flex;gap:1.5em;flex-wrap:wrap;align-items:flex-start">'
        f'{image_html(shown, alt)}<div style="flex:1;min-width:20em">{render_bars(bars, columns)}</div></div>'
    )


def draw_latent(picture: Array, bars: Sequence[Bar], columns: Sequence[Column] = ALONE) -> Picture:
    """The same as one picture."""
    shown, chart = _enlarged(picture), draw_bars(bars, columns)
    sheet = Image.new("RGB", (shown.width + _GAP + chart.width, max(shown.height, chart.height)), PAPER)
    sheet.paste(shown, (0, 0))
    sheet.paste(chart, (shown.width + _GAP, 0))
    return sheet


def _enlarged(picture: Array) -> Picture:
    plain = picture[:, :, 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
    image = Image.fromarray(np.ascontiguousarray(plain)).convert("RGB")
    return image.resize(panel_size(image.size), Image.Resampling.NEAREST)

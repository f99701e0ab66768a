"""What was found of a model's layers as a picture or a page: chooses the drawing by the layer's and the input's kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

from service.codecs.explanation import as_height_width_channel
from service.codecs.image import image_output_pixels
from service.errors import NotExplainable
from service.explain.layers.layer import Layer
from service.explain.layers.studied import Studied
from service.explain.render.facts import named_target
from service.explain.render.maps import MOST_TILES, channel_labels, draw_maps, draw_matrix, draw_pictures, draw_vector, figure
from service.explain.render.page import Section, image_html, render_page
from service.explain.render.sheet import Picture, below
from service.manifest import Input, Manifest

Array = npt.NDArray[Any]
Row = Mapping[str, Any]


def as_png(picture: Picture) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def as_page(manifest: Manifest, picture: Picture, alt: str) -> str:
    """A self-contained page that holds the picture."""
    return render_page(manifest.title or manifest.name, [Section(alt, image_html(picture, alt))], f"{manifest.name} · whyserve")


def draw_activations(manifest: Manifest, studied: Studied) -> Picture:
    """A figure an instance, under one another."""
    layer = _layer(studied)
    figures = [_activation(manifest, layer, row["values"], studied.fields["channels"]) for row in studied.rows]
    return below(figures)


def draw_attributions(manifest: Manifest, studied: Studied) -> Picture:
    """A figure an instance. Raises NotExplainable where one has no attributions, with its warning."""
    layer = _layer(studied)
    return below([_attribution(manifest, layer, row, studied.fields["channels"]) for row in studied.rows])


def draw_filters(manifest: Manifest, studied: Studied) -> Picture:
    """Filters of one input channel as maps, of three (a picture's) as colours, of more each by its mean over them."""
    layer, axes, values = _layer(studied), studied.fields["axes"], studied.rows[0]["values"]
    lines = (f"{manifest.name}, layer {layer.name}", f"{len(values)} filters of {' x '.join(map(str, values.shape[1:]))}")
    numbers = studied.fields["channels"] or range(len(values))
    labels = [f"#{number}" for number in numbers]
    legend = "orange adds to the unit where the input is strong, blue takes from it"
    if values.ndim == 2:
        body, seen = draw_matrix(values, "units", "inputs"), f"One row a unit, one column an input: {legend}."
    elif values.ndim == 3:
        body, seen = draw_matrix(values.mean(axis=1), "filters", "places"), f"One row a filter, as it runs along {axes[2]}: {legend}."
    elif values.ndim == 4 and values.shape[1] == 3:
        body = draw_pictures([_coloured(one) for one in values[:MOST_TILES]], labels[:MOST_TILES])
        seen = "Each filter as a picture: it answers most where the input looks like it; grey is no weight."
    else:
        maps = values.reshape(len(values), values.shape[1], -1, values.shape[-1]).mean(axis=1)
        mean = f" (mean over {values.shape[1]} input channels)" if values.shape[1] > 1 else ""
        body, seen = draw_maps(maps, labels, signed=True), f"One tile a filter{mean}: {legend}. All on one scale."
    return figure(body, f"What {layer.operator} looks through", lines, seen)


def draw_visualisations(manifest: Manifest, studied: Studied) -> Picture:
    """Pictures (of a generator: what it makes of the vectors) or, of tables and vectors, bars."""
    layer = _layer(studied)
    entry = next(i for i in manifest.inputs if i.name == studied.fields["input"])
    titles = [_reached(row) for row in studied.rows]
    if entry.image is not None:
        body = draw_pictures([_pixels(entry, row["values"]) for row in studied.rows], titles)
    elif all("made" in row for row in studied.rows):
        body = draw_pictures([image_output_pixels(row["made"], manifest.outputs[0]) for row in studied.rows], titles)
    else:
        body = below(
            [
                figure(draw_vector(*_deviations(entry, row["values"])), title, (), "")
                for row, title in zip(studied.rows, titles, strict=True)
            ]
        )
    unit = "standard deviations from the mean of the training data" if entry.table else "the input that excites each unit most"
    seen = (
        f"Drawn by gradient ascent, no data: {unit}. The number is the activation reached, in brackets the most that "
        f"{studied.fields['reference_instances']} real instances reach."
    )
    return figure(body, "What units look for", (f"{manifest.name}, layer {layer.name} ({layer.operator})",), seen)


# ------------------------------------------------------------------------------------------------------------- the parts


def _layer(studied: Studied) -> Layer:
    return Layer.model_validate(studied.fields["layer"])


def _activation(manifest: Manifest, layer: Layer, values: Array, channels: Sequence[int] | None) -> Picture:
    shape = " x ".join(map(str, values.shape)) or "one number"
    lines = (f"{manifest.name}, layer {layer.name} ({layer.operator}), {shape}",)
    if layer.spatial and values.ndim == 3:
        body = draw_maps(values, channel_labels(values, channels))
        seen = "One tile a channel, with the most that it reaches: yellow is where in the input the channel finds what it looks for."
        if len(values) > MOST_TILES:
            seen += f" The first {MOST_TILES} of {len(values)}: choose others with channels=."
    elif values.ndim >= 2:
        body = draw_matrix(*_as_matrix(layer, values))
        seen = "Orange is positive, blue negative, white nothing."
    else:
        body, seen = (
            draw_vector(values.reshape(-1), _names(values.size, channels)),
            "One bar a unit: how strongly it answers to this input.",
        )
    return figure(body, "What the layer makes of the input", lines, seen)


def _attribution(manifest: Manifest, layer: Layer, row: Row, channels: Sequence[int] | None) -> Picture:
    if "attributions" not in row:
        raise NotExplainable("; ".join(row["warnings"]))
    values, target = row["attributions"], named_target(row) or "the output"
    words = str(row["method"]).replace("_", " ")
    error = row["completeness_error"]
    lines = (
        f"{manifest.name}, layer {layer.name} ({layer.operator}): {words} of the {row['explained']}",
        f"parity error {row['parity_error']:.2g}" + ("" if error is None else f", completeness error {error:.2%}"),
    )
    if values.ndim == 3 and layer.spatial:
        one = row["method"] == "layer_grad_cam"
        order = np.argsort(-np.abs(values.sum(axis=(1, 2))), kind="stable")
        numbers = channels if channels is not None and not one else list(range(len(values)))
        labels = ["all channels" if one else f"#{numbers[i]}: {values[i].sum():+.3g}" for i in order]
        body = draw_maps(values[order], labels, signed=True)
        seen = "One tile a channel, the weightiest first, with its sum: orange speaks for, blue against. All on one scale."
    elif values.ndim >= 2:
        body, seen = draw_matrix(*_as_matrix(layer, values)), "Orange speaks for, blue against."
    else:
        body, seen = draw_vector(values.reshape(-1), _names(values.size, channels)), "One bar a unit: its share in the output."
    return figure(body, f"What in the layer spoke for and against {target}", lines, seen)


def _as_matrix(layer: Layer, values: Array) -> tuple[Array, str, str]:
    """(rows, columns) and their names."""
    if layer.spatial:
        return values.reshape(values.shape[0], -1), "channels", "places"
    return values.reshape(-1, values.shape[-1]) if layer.kind != "recurrent" else values.reshape(len(values), -1), "steps", "units"


def _names(count: int, channels: Sequence[int] | None) -> list[str]:
    return [f"unit {number}" for number in (channels if channels is not None else range(count))]


def _coloured(weights: Array) -> Array:
    """A filter (3, H, W) as a picture (H, W, 3) uint8, grey where its weights are zero."""
    scale = float(np.abs(weights).max()) or 1.0
    return np.asarray((weights.transpose(1, 2, 0) / scale * 127 + 128).round(), np.uint8)


def _pixels(entry: Input, values: Array) -> Array:
    low, high = entry.range or (0.0, 255.0)
    return np.clip((as_height_width_channel(values, entry) - low) * (255 / (high - low)), 0, 255).round().astype(np.uint8)


def _reached(row: Row) -> str:
    name = str(row.get("label", f"unit {row['unit']}"))
    best = row["reference_activation"]
    return f"{name}: {row['activation']:.3g}" + ("" if best is None else f" (real {best:.3g})")


def _deviations(entry: Input, values: Array) -> tuple[Array, list[str]]:
    """What is drawn of a vector, and a name each: of a table standard deviations from the mean, with the value itself."""
    if entry.table is None:
        return values.reshape(-1), [f"{entry.name}[{i}]" for i in range(values.size)]
    columns = entry.table.columns
    spread = np.asarray([(v - (c.mean or 0.0)) / (c.std or 1.0) for v, c in zip(values.tolist(), columns, strict=True)])
    return spread, [f"{c.name} = {v:.4g}{' ' + c.unit if c.unit else ''}" for v, c in zip(values.tolist(), columns, strict=True)]

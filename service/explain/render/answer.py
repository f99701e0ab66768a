"""Answers of `:explain` as a picture or a page: chooses the renderer of each input by the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.codecs.explanation import as_height_width_channel
from service.codecs.geometry import Geometry
from service.codecs.image import image_output_pixels
from service.codecs.instance import Instance
from service.codecs.picture import ImageLimits, as_seen
from service.errors import NotExplainable
from service.explain.answer import Explanation
from service.explain.render.bars import Bar, draw_bars, largest, render_bars
from service.explain.render.facts import caption, facts, heading
from service.explain.render.image import render_figure, render_grid, render_legend, render_overlay, render_panels
from service.explain.render.latent import class_share, draw_latent, latent_bars, render_latent
from service.explain.render.page import Section, image_html, render_page
from service.explain.render.table import table_bars
from service.explain.render.text import render_text
from service.manifest import Input, Manifest

if TYPE_CHECKING:
    from service.serving import Explained

Array = npt.NDArray[Any]
Prediction = dict[str, Any]


def drawable(manifest: Manifest) -> tuple[str, ...]:
    """The media types that an explanation of this model can be answered in, JSON first; a text makes no picture."""
    only_text = all(declared.codec == "text" for declared in manifest.inputs)
    return ("application/json", "text/html") if only_text else ("application/json", "image/png", "text/html")


def draw_picture(manifest: Manifest, explained: Explained) -> bytes:
    """A PNG: the overlay at the sent size for one sent picture, a figure for anything else, several in a grid.

    Raises NotExplainable where an explanation holds no attributions, with its warning.
    """
    cases = _cases(explained)
    picture = _overlay(manifest, cases[0][0], cases[0][2]) if len(cases) == 1 else None
    picture = picture or render_grid([_figure(manifest, *case) for case in cases])
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def draw_page(manifest: Manifest, explained: Explained) -> str:
    """A self-contained page with one section an explanation; one without attributions shows its warning instead."""
    title = manifest.title or manifest.name
    sections = [_section(manifest, *case) for case in _cases(explained)]
    return render_page(title, sections, f"{manifest.name}, version {manifest.version} · whyserve")


def _cases(explained: Explained) -> list[tuple[Instance, Prediction, Explanation]]:
    """Each explanation with its instance and prediction."""
    rows = zip(explained.instances, explained.predictions, explained.explanations, strict=True)
    return [(instance, prediction, one) for instance, prediction, found in rows for one in found]


def _overlay(manifest: Manifest, instance: Instance, explanation: Explanation) -> Image.Image | None:
    """None where the instance isn't about a picture that was sent encoded."""
    attributions = _attributions(explanation)
    declared = _picture_input(manifest, attributions)
    if declared is None or declared.name not in instance.encoded:
        return None
    sent, geometry = _sent(declared, instance)
    return render_overlay(sent, as_height_width_channel(attributions[declared.name], declared), geometry)


def _figure(manifest: Manifest, instance: Instance, prediction: Prediction, explanation: Explanation) -> Image.Image:
    attributions = _attributions(explanation)
    words = caption(prediction, explanation.fields)
    if (made := _generated(manifest, prediction)) is not None:
        return draw_latent(made, latent_bars(manifest.inputs, instance.tensors, attributions), words)
    if (declared := _picture_input(manifest, attributions)) is not None:
        sent, geometry = _sent(declared, instance)
        return render_figure(sent, as_height_width_channel(attributions[declared.name], declared), geometry, words)
    return draw_bars(_bars(manifest.inputs, instance, attributions), words)


def _section(manifest: Manifest, instance: Instance, prediction: Prediction, explanation: Explanation) -> Section:
    fields = explanation.fields
    warnings = (*fields.get("warnings", ()), *instance.warnings)
    title, rows = heading(prediction, fields), facts(fields)
    if explanation.attributions is None:
        return Section(title, "", rows, warnings)
    attributions = {name: np.asarray(array) for name, array in explanation.attributions.items()}
    made = _generated(manifest, prediction)
    if made is None:
        shown = [declared for declared in manifest.inputs if declared.name in attributions]
        return Section(title, "".join(_fragment(declared, instance, attributions[declared.name]) for declared in shown), rows, warnings)
    classes = [declared.name for declared in manifest.inputs if declared.labels and declared.name in attributions]
    shares = [(f"share of {name}", f"{class_share(attributions, name):.1%} of all that moved the picture") for name in classes]
    bars = latent_bars(manifest.inputs, instance.tensors, attributions)
    return Section(title, render_latent(made, bars, "the generated picture"), (*rows, *shares), warnings)


def _fragment(declared: Input, instance: Instance, attributions: Array) -> str:
    if declared.image:
        sent, geometry = _sent(declared, instance)
        panels = render_panels(sent, as_height_width_channel(attributions, declared), geometry)
        shown = "".join(
            image_html(panel, alt) for panel, alt in zip(panels, ("the picture as sent", "what spoke for and against"), strict=True)
        )
        return f'<div style="display:flex;gap:1em;flex-wrap:wrap">{shown}</div><p>{image_html(render_legend(), "colour scale")}</p>'
    if declared.name in instance.texts:
        text = instance.texts[declared.name]
        return render_text(text.text, text.tokens, attributions.tolist(), text.truncated_at)
    return render_bars(_bars((declared,), instance, {declared.name: attributions}))


def _bars(inputs: Sequence[Input], instance: Instance, attributions: dict[str, Array]) -> list[Bar]:
    """Of tables and of any other tensors, together."""
    bars: list[Bar] = []
    for declared in inputs:
        if declared.name not in attributions:
            continue
        values, array = instance.tensors[declared.name], attributions[declared.name]
        if declared.table:
            bars += table_bars(declared.table.columns, values.tolist(), array.tolist())
        else:
            bars += latent_bars((declared,), {declared.name: values}, {declared.name: array}, limit=20)
    return largest(bars, 20)


def _attributions(explanation: Explanation) -> dict[str, Array]:
    if explanation.attributions is None:
        raise NotExplainable("; ".join(explanation.fields.get("warnings", ())) or "this explanation holds no attributions")
    return {name: np.asarray(array) for name, array in explanation.attributions.items()}


def _picture_input(manifest: Manifest, attributions: dict[str, Array]) -> Input | None:
    return next((declared for declared in manifest.inputs if declared.image and declared.name in attributions), None)


def _generated(manifest: Manifest, prediction: Prediction) -> Array | None:
    """The picture that a generative model made, (H, W, C) uint8."""
    output = manifest.outputs[0]
    return image_output_pixels(np.array(prediction[output.name]), output) if output.kind == "image" else None


def _sent(declared: Input, instance: Instance) -> tuple[Image.Image, Geometry]:
    """The picture as it is seen; one that came as a tensor is drawn as that tensor is."""
    policy = declared.image
    assert policy is not None
    if declared.name in instance.encoded:
        geometry = instance.images[declared.name].geometry
        limits = ImageLimits(geometry.sent[0] * geometry.sent[1])  # it has passed the server's own
        return as_seen(instance.encoded[declared.name], policy, limits), geometry
    pixels = np.clip(as_height_width_channel(instance.tensors[declared.name], declared), 0, 255).astype(np.uint8)
    frame = (policy.width, policy.height)
    geometry = Geometry(frame, frame, (0.0, 0.0, float(frame[0]), float(frame[1])), frame, policy.filter)
    return Image.fromarray(pixels.squeeze(2) if policy.channels == 1 else pixels).convert("RGB"), geometry

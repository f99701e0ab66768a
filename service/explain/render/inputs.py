"""One instance's inputs with what each method attributed to them: picks the renderer that the manifest calls for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.codecs.audio import samples_of
from service.codecs.explanation import as_height_width_channel
from service.codecs.geometry import Geometry
from service.codecs.image import image_output_pixels
from service.codecs.instance import Instance
from service.codecs.picture import ImageLimits, as_seen
from service.explain.answer import Explanation
from service.explain.render.bars import Bar, Column, draw_bars, largest, render_bars
from service.explain.render.colormap import SIGNED, UNSIGNED
from service.explain.render.facts import label_of
from service.explain.render.image import draw_overlays, overlay_panels, render_legend, render_overlay
from service.explain.render.latent import draw_latent, number_bars, render_latent
from service.explain.render.layer import Layer, scales
from service.explain.render.page import image_html
from service.explain.render.sheet import Picture, below
from service.explain.render.sound import draw_sound
from service.explain.render.table import table_bars
from service.explain.render.text import render_text
from service.explain.render.time_frequency import TimeFrequency, is_product
from service.manifest import Input, Manifest

Array = npt.NDArray[Any]
Prediction = dict[str, Any]

_MOST_BARS = 20


@dataclass(frozen=True, slots=True)
class Drawing:
    """An instance, its prediction, and the explanations of it that hold attributions, one a method."""

    manifest: Manifest
    instance: Instance
    prediction: Prediction
    found: Sequence[Explanation]

    def overlay(self) -> Picture | None:
        """The first method's over the first picture, at its sent size; None where no picture was sent encoded."""
        declared = next((i for i in self._reached() if i.image and i.name in self.instance.encoded), None)
        if declared is None or self._made() is not None:
            return None
        (layer, *_), (sent, geometry) = self._pixel_layers(declared), self._sent(declared)
        return render_overlay(sent, layer.attributions, geometry, layer.colours)

    def html(self) -> str:
        """Each input in turn; inputs that are numbers together as bars, largest first."""
        parts = [self._picture_html(i) for i in self._reached() if i.image]
        parts += [self._text_html(i) for i in self._reached() if i.name in self.instance.texts]
        parts += [f"<p>{image_html(self._sound(i), 'spectrogram and attributions')}</p>" for i in self._reached() if i.audio]
        bars, made = self._bars(), self._made()
        if made is not None:
            return render_latent(made, bars, "the generated picture", self._columns())
        return "".join(parts) + (render_bars(bars, self._columns()) if bars else "")

    def picture(self) -> Picture:
        """The same as one picture, a text as bars of its tokens."""
        bars, made = self._bars(texts=True), self._made()
        if made is not None:
            return draw_latent(made, bars, self._columns())
        parts = [draw_overlays(*self._picture(i), self._target) for i in self._reached() if i.image]
        parts += [self._sound(i) for i in self._reached() if i.audio]
        return below([*parts, draw_bars(bars, self._columns())] if bars else parts)

    @property
    def _target(self) -> str:
        return label_of(self.found[0].fields)

    def _reached(self) -> list[Input]:
        """The inputs that some method attributes to."""
        return [i for i in self.manifest.inputs if any(i.name in (each.attributions or {}) for each in self.found)]

    def _layers(self, declared: Input) -> list[Layer]:
        return [
            Layer(np.asarray(each.attributions[declared.name]), _colours(each), str(each.fields["method"]) if len(self.found) > 1 else "")
            for each in self.found
            if each.attributions is not None and declared.name in each.attributions
        ]

    def _columns(self) -> list[Column]:
        several = len(self.found) > 1
        return [Column(str(e.fields["method"]).replace("_", " ") if several else "", _colours(e)) for e in self.found]

    def _pixel_layers(self, declared: Input) -> list[Layer]:
        return [Layer(as_height_width_channel(i.attributions, declared), i.colours, i.method) for i in self._layers(declared)]

    def _picture(self, declared: Input) -> tuple[Picture, list[Layer], Geometry]:
        sent, geometry = self._sent(declared)
        return sent, self._pixel_layers(declared), geometry

    def _picture_html(self, declared: Input) -> str:
        sent, layers, geometry = self._picture(declared)
        alts = ["the picture as sent", *("what spoke for and against" if i.colours.signed else "what had influence" for i in layers)]
        shown = "".join(
            f'<figure style="margin:0">{image_html(panel, alt)}<figcaption>{escape(title) if len(layers) > 1 else ""}</figcaption></figure>'
            for (title, panel), alt in zip(overlay_panels(sent, layers, geometry), alts, strict=True)
        )
        legends = "<br>".join(image_html(render_legend(scale, self._target), "colour scale") for scale in scales(tuple(layers)))
        return f'<div style="display:flex;gap:1em;flex-wrap:wrap">{shown}</div><p>{legends}</p>'

    def _text_html(self, declared: Input) -> str:
        text = self.instance.texts[declared.name]
        return "".join(
            (f"<h3>{escape(layer.title)}</h3>" if layer.title else "")
            + render_text(
                text.text, text.tokens, layer.attributions.tolist(), text.truncated_at, colours=layer.colours, target=self._target
            )
            for layer in self._layers(declared)
        )

    def _sound(self, declared: Input) -> Picture:
        assert declared.audio is not None
        layers = [Layer(samples_of(i.attributions), i.colours, i.method) for i in self._layers(declared)]
        sent = self.instance.sounds.get(declared.name)
        samples = samples_of(self.instance.tensors[declared.name])
        rate = declared.audio.sample_rate
        maps = [_by_frequency(each, declared.name, samples, rate) for each in self.found if declared.name in (each.attributions or {})]
        return draw_sound(samples, rate, layers, self._target, sent.samples if sent else None, maps)

    def _bars(self, texts: bool = False) -> list[Bar]:
        """Of tables and of any other numbers, together; of a text's tokens too where `texts` says so."""
        bars: list[Bar] = []
        for declared in self._reached():
            values = self.instance.tensors[declared.name]
            parts = [_or_nan(each, declared.name, values) for each in self.found]
            if declared.table:
                bars += table_bars(declared.table.columns, values.tolist(), [part.tolist() for part in parts])
            elif declared.name in self.instance.texts:
                tokens = self.instance.texts[declared.name].tokens if texts else ()
                spoken = zip(tokens, zip(*(part.tolist() for part in parts), strict=True), strict=False)
                bars += [Bar(token.text, "", values) for token, values in spoken if token]
            elif not declared.image and not declared.audio:
                bars += number_bars(declared, values, parts)
        return largest(bars, _MOST_BARS)

    def _made(self) -> Array | None:
        """The picture that a generative model made, (H, W, C) uint8."""
        output = self.manifest.outputs[0]
        return image_output_pixels(np.array(self.prediction[output.name]), output) if output.kind == "image" else None

    def _sent(self, declared: Input) -> tuple[Picture, Geometry]:
        """The picture as it is seen; one that came as a tensor is drawn as that tensor is."""
        policy = declared.image
        assert policy is not None
        if declared.name in self.instance.encoded:
            geometry = self.instance.images[declared.name].geometry
            limits = ImageLimits(geometry.sent[0] * geometry.sent[1])  # it has passed the server's own
            return as_seen(self.instance.encoded[declared.name], policy, limits), geometry
        pixels = np.clip(as_height_width_channel(self.instance.tensors[declared.name], declared), 0, 255).astype(np.uint8)
        frame = (policy.width, policy.height)
        geometry = Geometry(frame, frame, (0.0, 0.0, float(frame[0]), float(frame[1])), frame, policy.filter)
        return Image.fromarray(pixels.squeeze(2) if policy.channels == 1 else pixels).convert("RGB"), geometry


def _colours(explanation: Explanation) -> Any:
    return SIGNED if explanation.fields.get("signed", True) else UNSIGNED


def _by_frequency(explanation: Explanation, name: str, samples: Array, rate: int) -> TimeFrequency | None:
    """A sound's attributions by time and frequency, where the method has them or they follow from its samples'."""
    field = explanation.fields.get("time_frequency")
    if field is not None:
        own = field if "values" in field else field.get(name)
        return TimeFrequency.of_field(own) if own else None
    if explanation.attributions is None or not is_product(explanation.fields, name):
        return None
    return TimeFrequency.of_products(samples, samples_of(np.asarray(explanation.attributions[name], float)), rate)


def _or_nan(explanation: Explanation, name: str, values: Array) -> Array:
    """The method's attributions of the input, NaN of an input that it doesn't reach."""
    found = explanation.attributions or {}
    return np.asarray(found[name], float) if name in found else np.full(values.shape, np.nan)

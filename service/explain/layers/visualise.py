"""What a unit looks for: the input that excites it most, by gradient ascent on the faithful twin, judged by the served model.

Erhan et al. 2009 (activation maximisation); Olah, Mordvintsev, Schubert 2017, https://distill.pub/2017/feature-visualization.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.errors import BadParameter, DeadlineExceeded, NotExplainable, UnknownChoice
from service.explain.cancel import TimeUp, Token
from service.explain.layers import activations
from service.explain.layers.canvas import REACH, Canvas, Latent, Picture, Row
from service.explain.layers.layer import Catalog, Layer
from service.explain.layers.parameters import MOST_UNITS, VisualiseParameters
from service.explain.layers.studied import Studied
from service.explain.parity import parity_error
from service.explain.served import Served
from service.explain.subject import Subject, attributed
from service.manifest import Input

Array = NDArray[Any]
Arrays = Mapping[str, Array]
DEFAULT_UNITS = 10
RATE = 0.05
"""Adam's learning rate for pictures; a row or a latent takes larger steps."""


def default(subject: Subject, catalog: Catalog) -> Layer:
    """The layer that makes the first output, else the last that can be drawn for."""
    usable = [layer for layer in catalog.layers if layer.attributable]
    ends = {*subject.outputs, *subject.logits.values()}
    layer = next((layer for layer in usable[::-1] if layer.output in ends), usable[-1] if usable else None)
    if layer is None:
        raise NotExplainable(f"nothing can be drawn for this model: {catalog.reason or 'no layer can be addressed'}")
    return layer


@dataclass(frozen=True, slots=True, eq=False)
class _Study:
    """What all units of a request share."""

    subject: Subject
    layer: Layer
    served: Served
    feeds: Arrays
    """(1, ..) by graph input: what isn't drawn stays as it is here."""
    drawn: Input
    wanted: VisualiseParameters
    contrast: bool
    scale: float
    """What the layer reaches on real instances: the weights of the costs are in its units."""
    token: Token


def visualise(
    subject: Subject,
    layer: Layer,
    served: Served,
    feeds: Arrays,
    reference: Sequence[Arrays],
    wanted: VisualiseParameters,
    token: Token,
) -> Studied:
    """The input that excites each unit asked for, with what it reaches against the most that real instances reach.

    `feeds` (1, ..) and each of `reference` (1, ..) by graph input. Raises NotExplainable, BadParameter, UnknownChoice,
    DeadlineExceeded, Cancelled.
    """
    if not layer.attributable:
        raise NotExplainable(f"nothing can be drawn for layer {layer.name!r} ({layer.operator}): {layer.note}")
    labels = _labels(subject, layer)
    units = _units(wanted, layer, labels)
    # Of one score there are no others to lead.
    contrast = (wanted.objective or ("contrast" if labels else "activation")) == "contrast" and layer.units > 1
    real = np.asarray([_activations(subject, served, layer, one) for one in reference])  # (R, units)
    scale = max(float(np.abs(real).max()), 1e-3) if len(real) else 1.0
    study = _Study(subject, layer, served, feeds, _drawn_input(subject), wanted, contrast, scale, token)
    rows = []
    for unit in units:
        best = float(real[:, unit].max()) if len(real) else None
        named = {"label": labels[unit]} if unit < len(labels) else {}
        try:
            rows.append({"unit": unit, **named} | _one(study, unit) | {"reference_activation": best})
        except TimeUp:
            raise DeadlineExceeded(f"{len(rows)} of {len(units)} units drawn in time: ask for fewer, or fewer 'steps'") from None
    parameters = wanted.model_dump(exclude={"layer", "unit", "timeout"}) | {"objective": "contrast" if contrast else "activation"}
    fields = {"layer": layer.model_dump(), "input": study.drawn.name, "parameters": parameters, "reference_instances": len(reference)}
    return Studied(fields, tuple(rows))


def _one(study: _Study, unit: int) -> dict[str, Any]:
    started = time.perf_counter()
    canvas = _canvas(study)
    generator = torch.Generator().manual_seed(study.wanted.seed)
    is_picture = isinstance(canvas, Picture)
    segment = study.subject.segment((study.layer.output,), form="faithful")
    place = list(study.subject.at).index(study.drawn.name)
    ran = study.subject.served.run(study.feeds)
    fixed = attributed(study.subject, study.feeds, ran)
    others = [torch.from_numpy(study.feeds[name].copy()) for name in study.subject.others]
    optimiser = torch.optim.Adam([canvas.numbers], lr=RATE if is_picture else 2 * RATE)
    for _ in range(study.wanted.steps):
        study.token.check()
        with torch.enable_grad():
            drawn = canvas.drawn()
            seen = canvas.seen(drawn, study.wanted.copies, generator)  # (copies, ..)
            tensors = [_rows(t, len(seen)) for t in fixed]
            tensors[place] = seen.to(fixed[place].dtype)
            (values,) = segment(*tensors, *(_rows(t, len(seen)) for t in others))
            objective = _objective(_by_unit(values, study.layer), unit, contrast=study.contrast) / study.scale
            loss = canvas.cost(drawn, study.wanted.smoothness, study.wanted.sparseness) - objective
        if not torch.isfinite(loss):
            raise NotExplainable(f"unit {unit} of layer {study.layer.name!r} can't be drawn for: its activation is not a finite number")
        canvas.numbers.grad = torch.autograd.grad(loss, canvas.numbers)[0]
        optimiser.step()
    return _judged(study, unit, canvas.drawn().detach()) | {"seconds": round(time.perf_counter() - started, 6)}


def _judged(study: _Study, unit: int, drawn: Tensor) -> dict[str, Any]:
    """What the served model makes of it."""
    values = drawn.numpy().astype(study.drawn.dtype)
    feeds = {**study.feeds, study.drawn.name: values}
    reached = float(_activations(study.subject, study.served, study.layer, feeds)[unit])
    ran = study.subject.served.run(feeds)
    segment = study.subject.segment((study.layer.output,), form="faithful")
    with torch.no_grad():
        (twin,) = segment(*attributed(study.subject, feeds, ran), *(feeds[name] for name in study.subject.others))
    wanted = activations.one(study.subject, study.served, study.layer, feeds)
    found: dict[str, Any] = {
        "values": values[0],
        "activation": reached,
        "parity_error": parity_error({"": twin[0].numpy()}, {"": wanted}),
    }
    output = study.subject.manifest.outputs[0]
    if output.kind == "image":
        found["made"] = ran[output.name][0]
    return found


# ------------------------------------------------------------------------------------------------------------- the units


def _by_unit(values: Tensor, layer: Layer) -> Tensor:
    """(N, units): the mean over places, where a unit has several."""
    axis = 1 if layer.spatial else values.dim() - 1
    return values.movedim(axis, 1).flatten(2).mean(2) if values.dim() > 2 else values.reshape(len(values), -1)


def _activations(subject: Subject, served: Served, layer: Layer, feeds: Arrays) -> Array:
    """(units,) of the served model, measured as the objective measures it."""
    values = torch.from_numpy(np.ascontiguousarray(activations.one(subject, served, layer, feeds)))[None]
    return np.asarray(_by_unit(values, layer)[0].numpy())


def _objective(values: Tensor, unit: int, *, contrast: bool) -> Tensor:
    """The mean over copies (N, units) of the unit's activation, or of its lead over the others (their smooth maximum)."""
    own = values[:, unit]
    if not contrast:
        return own.mean()
    others = torch.cat([values[:, :unit], values[:, unit + 1 :]], dim=1)
    return (own - torch.logsumexp(others, dim=1)).mean()


def _labels(subject: Subject, layer: Layer) -> tuple[str, ...]:
    """The classes that the layer's units stand for."""
    for output in subject.manifest.outputs:
        if (
            output.kind == "classes"
            and layer.output in (output.name, subject.logits.get(output.name))
            and len(output.labels) == layer.units
        ):
            return output.labels
    return ()


def _units(wanted: VisualiseParameters, layer: Layer, labels: tuple[str, ...]) -> list[int]:
    if wanted.unit is None:
        return list(range(min(layer.units, DEFAULT_UNITS)))
    if not 0 < len(wanted.unit) <= MOST_UNITS:
        raise BadParameter(f"parameter 'unit': expected 1 to {MOST_UNITS} units, got {len(wanted.unit)}")
    return [_unit(spec, layer, labels) for spec in wanted.unit]


def _unit(spec: int | str, layer: Layer, labels: tuple[str, ...]) -> int:
    text = str(spec)
    if text in labels:  # a label may be a number, as a digit's is: it goes before an index
        return labels.index(text)
    if not text.isdecimal():
        raise UnknownChoice("unit", spec, labels or [f"0 to {layer.units - 1}"])
    if int(text) >= layer.units:
        raise BadParameter(f"parameter 'unit': {text} is out of range, layer {layer.name!r} has {layer.units} (0 to {layer.units - 1})")
    return int(text)


# ------------------------------------------------------------------------------------------------------- what is drawn


def _drawn_input(subject: Subject) -> Input:
    """The input to draw: the first float one that can be drawn. Raises NotExplainable."""
    entries = [entry for entry in subject.manifest.inputs if subject.at.get(entry.name) == entry.name]
    for entry in entries:
        if entry.codec in ("image", "table", "tensor") and (entry.codec != "image" or entry.range) and None not in entry.shape:
            return entry
    kinds = " and ".join(dict.fromkeys(entry.codec for entry in subject.manifest.inputs))
    raise NotExplainable(
        f"nothing can be drawn for this model: its input is {kinds}; pictures with a range, tables and vectors of a fixed size can be "
        "(tokens can't be changed a little, and a sound that excites a unit is noise to the ear)"
    )


def _canvas(study: _Study) -> Canvas:
    entry, generator = study.drawn, torch.Generator().manual_seed(study.wanted.seed)
    sizes = tuple(size or 1 for size in entry.shape)
    if entry.image is not None:
        assert entry.range is not None
        nhwc = entry.image.layout == "NHWC"
        size = (sizes[2], sizes[0], sizes[1]) if nhwc else (sizes[0], sizes[1], sizes[2])
        return Picture.of(size, entry.range, _baseline(study), study.wanted.parametrisation, generator, channels_last=nhwc)
    if entry.table is not None:
        columns = entry.table.columns
        mean, std = [c.mean or 0.0 for c in columns], [c.std or 1.0 for c in columns]
        low = [m - REACH * s if c.minimum is None else c.minimum for c, m, s in zip(columns, mean, std, strict=True)]
        high = [m + REACH * s if c.maximum is None else c.maximum for c, m, s in zip(columns, mean, std, strict=True)]
        return Row.of(mean, std, low, high)
    return Latent.of(sizes, generator)


def _baseline(study: _Study) -> float:
    """The colour that stands for nothing there."""
    explain = study.subject.manifest.explain
    declared = explain.baseline.get(study.drawn.name) if explain else None
    if declared is None:
        low, high = study.drawn.range or (0.0, 1.0)
        return (low + high) / 2
    return float(declared.value or 0.0)


def _rows(tensor: Tensor, rows: int) -> Tensor:
    """One row as so many alike."""
    return tensor.expand(rows, *tensor.shape[1:]) if tensor.dim() else tensor

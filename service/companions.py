"""Instances that are sent beside those to be explained, as parameters: a baseline, a reference set. Decoded as any instance is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from service.codecs.instance import Instance, InstanceDecoder
from service.codecs.sent import is_encoded, kind_of, sent_instance, sent_value
from service.codecs.words import words
from service.errors import BadInput, BadParameter, TooLarge
from service.explain.methods import ExplainRequest
from service.manifest import Input

Array = np.ndarray[Any, Any]


def encoded_pixels(request: ExplainRequest, inputs: tuple[Input, ...], decoder: InstanceDecoder) -> int:
    """How many pixels decoding them will hold, from the pictures' headers. Raises BadParameter."""
    sent = [*_baseline(request, inputs).items(), *(one for row in _reference(request, inputs) for one in row.items())]
    try:
        return sum(decoder.pixels({name: value}) for name, value in sent)
    except BadInput as error:
        raise _named("baseline or reference", error) from None


def are_sent(request: ExplainRequest, inputs: tuple[Input, ...]) -> bool:
    """Whether anything of the request has to be decoded. Raises BadParameter."""
    return bool(_baseline(request, inputs)) or getattr(request.parameters, "reference", None) is not None


def decoded(request: ExplainRequest, inputs: tuple[Input, ...], decoder: InstanceDecoder, most: int) -> ExplainRequest:
    """The request with what was sent along as arrays, `baseline` (1, ..) and `reference` (R, ..) by input; at most `most` R.

    What needs no decoding (names, numbers, nested lists of a baseline) stays a parameter. Raises BadParameter, TooLarge.
    """
    parameters = request.parameters
    values, rows = _baseline(request, inputs), _reference(request, inputs)
    if len(rows) > most:
        raise TooLarge(f"parameter 'reference': {len(rows)} instances, at most {most} (setting WHYSERVE_MAX_INSTANCES)")
    baseline = {name: _decoded("baseline", decoder, name, value)[None] for name, value in values.items()}
    reference = {i.name: _stacked(i.name, [_of(i.name, row, decoder) for row in rows]) for i in inputs} if rows else {}
    left: dict[str, Any] = {"reference": None} if rows else {}
    if baseline:
        spec = parameters.baseline  # type: ignore[attr-defined]  # there is a baseline, so the method takes one
        left["baseline"] = None if is_encoded(spec) else {name: part for name, part in spec.items() if name not in baseline}
    return replace(request, parameters=parameters.model_copy(update=left), baseline=baseline, reference=reference)


def with_words(request: ExplainRequest, inputs: tuple[Input, ...], instances: Sequence[Instance]) -> ExplainRequest:
    """The request with the words of the instances' texts, where it asks for words as features; ids that came without their text
    have none."""
    spec = getattr(request.parameters, "features", None)
    asked = [i.name for i in inputs if i.text and (spec.get(i.name) if isinstance(spec, Mapping) else spec) == "words"]
    known = [name for name in asked if all(name in instance.texts for instance in instances)]
    found = {name: np.stack([words(instance.texts[name]) for instance in instances]) for name in known}
    return replace(request, features=found) if found else request


def _baseline(request: ExplainRequest, inputs: tuple[Input, ...]) -> dict[str, Any]:
    """The encoded values of a baseline, by input."""
    spec = getattr(request.parameters, "baseline", None)
    if is_encoded(spec):
        if len(inputs) > 1:
            names = ", ".join(i.name for i in inputs)
            raise BadParameter(f"parameter 'baseline': the model has several inputs, expected an object with {names}")
        spec = {inputs[0].name: spec}
    known = {i.name for i in inputs}
    parts = spec.items() if isinstance(spec, Mapping) else ()
    return {name: _value("baseline", part) for name, part in parts if name in known and is_encoded(part)}


def _reference(request: ExplainRequest, inputs: tuple[Input, ...]) -> list[dict[str, Any]]:
    rows = getattr(request.parameters, "reference", None)
    if rows is None:
        return []
    if not rows:
        raise BadParameter(f"parameter 'reference': expected a list of instances, got {kind_of(rows)}")
    try:
        return [sent_instance(row, inputs) for row in rows]
    except BadInput as error:
        raise _named("reference", error) from None


def _value(parameter: str, part: Any) -> Any:
    try:
        return sent_value(part)
    except BadInput as error:
        raise _named(parameter, error) from None


def _of(name: str, row: Mapping[str, Any], decoder: InstanceDecoder) -> Array:
    if name not in row:
        raise BadParameter(f"parameter 'reference': input {name!r} is missing in one of its instances")
    return _decoded("reference", decoder, name, row[name])


def _decoded(parameter: str, decoder: InstanceDecoder, name: str, value: Any) -> Array:
    try:
        return decoder.decode_value(name, value)
    except BadInput as error:
        raise _named(parameter, error) from None


def _stacked(name: str, rows: list[Array]) -> Array:
    shapes = {row.shape for row in rows}
    if len(shapes) > 1:
        raise BadParameter(f"parameter 'reference': the instances of input {name!r} have different shapes, {sorted(shapes)[:3]}")
    return np.stack(rows)


def _named(parameter: str, error: BadInput) -> BadParameter:
    return BadParameter(f"parameter {parameter!r}: {error.message}")

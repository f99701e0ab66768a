"""What a generative model is asked for: the rows of its inputs, drawn by seed where the request leaves them out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from service.codecs.tensor import decode_tensor
from service.errors import BadInput, BadParameter, NotFound
from service.manifest import Input, Manifest
from service.parameters import GenerateParameters

Rows = list[dict[str, np.ndarray]]


def rows_to_generate(manifest: Manifest, sent: list[dict[str, Any]], parameters: GenerateParameters) -> Rows:
    """One dict of tensors (without batch axis) a row: the instances sent, else `n` rows.

    The same seed draws the same rows, and the first k of n rows are those of k. Raises NotFound where the model can't
    generate, BadInput where an input was neither sent nor can be drawn, BadParameter, UnknownChoice.
    """
    if manifest.task != "generation" or not any(declared.sample for declared in manifest.inputs):
        raise NotFound(f"model {manifest.name!r} doesn't generate, its task is {manifest.task}; use :predict")
    if manifest.outputs[0].kind != "image":
        raise NotFound(f"model {manifest.name!r} generates no pictures; use :predict")
    labelled = next((i for i in manifest.inputs if i.labels), None)
    if parameters.label is not None and labelled is None:
        raise BadParameter(f"parameter 'class': model {manifest.name!r} has no classes")
    given = {labelled.name: parameters.label} if labelled and parameters.label is not None else {}
    instances = sent or [{} for _ in range(parameters.n)]
    draw = np.random.default_rng(parameters.seed)
    return [_row(manifest.inputs, {**given, **instance}, draw) for instance in instances]


def draw_missing(manifest: Manifest, sent: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """The instances with what they leave out drawn as `:generate` draws it with that seed: so its pictures are explained."""
    if not any(declared.sample for declared in manifest.inputs):
        return sent
    draw = np.random.default_rng(seed)
    return [{name: value.tolist() for name, value in _drawn(manifest.inputs, draw).items()} | instance for instance in sent]


def _drawn(inputs: tuple[Input, ...], draw: np.random.Generator) -> dict[str, np.ndarray]:
    drawn = ((declared.name, _draw(declared, draw)) for declared in inputs)
    return {name: value for name, value in drawn if value is not None}


def _row(inputs: tuple[Input, ...], given: Mapping[str, Any], draw: np.random.Generator) -> dict[str, np.ndarray]:
    unknown = sorted(set(given) - {i.name for i in inputs})
    if unknown:
        raise BadInput(f"unknown input {unknown[0]!r}; this model takes {[i.name for i in inputs]}")
    drawn = _drawn(inputs, draw)  # drawn even where given, so that giving one input leaves the others as they were
    row = {}
    for declared in inputs:
        if given.get(declared.name) is not None:
            row[declared.name] = decode_tensor(given[declared.name], declared)
        elif declared.name in drawn:
            row[declared.name] = drawn[declared.name]
        else:
            raise BadInput(f"input {declared.name!r} is missing, and it is none that can be drawn")
    return row


def _draw(declared: Input, draw: np.random.Generator) -> np.ndarray | None:
    shape = tuple(size or 1 for size in declared.shape)
    if declared.sample == "normal":
        return draw.standard_normal(shape).astype(declared.dtype)
    if declared.sample == "uniform":
        low, high = declared.range or (0.0, 1.0)
        return draw.uniform(low, high, shape).astype(declared.dtype)
    if declared.sample == "label":
        return np.asarray(draw.integers(len(declared.labels), size=shape), declared.dtype)
    return None

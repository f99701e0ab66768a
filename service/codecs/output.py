"""What a model put out, to the predictions of an answer: labels with probabilities, values, masks, tensors by name.

On the hot path: a row of ten classes costs a few microseconds, which is why short rows are computed in plain Python.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import numpy as np

from service.codecs.image import encode_png
from service.codecs.numbers import Array, to_json
from service.errors import ModelFailed
from service.manifest import Output

Prediction = dict[str, Any]

_SHORT = 64
"""Up to this many scores a row, Python's own arithmetic on lists beats numpy's calls."""


def encode_predictions(arrays: Mapping[str, Array], outputs: tuple[Output, ...], top_k: int = 5) -> list[Prediction]:
    """One prediction a row of `arrays` (by output name, each (N, ..)).

    A first output of kind `classes`, `value` or `mask` gives `label`, `value(s)` or `b64`; further outputs are then added as
    `outputs`, by name. Any other model's outputs are given by name. Floats that JSON has no numbers for are the strings
    NaN, Infinity and -Infinity. Raises ModelFailed where class scores are NaN.
    """
    first, *others = outputs
    array = arrays[first.name]
    if first.kind == "classes" and _scores_per_row(array) is not None:
        predictions = _classes(array, first, top_k)
    elif first.kind == "value":
        predictions = _values(array)
    elif first.kind == "mask":
        predictions = [_mask(row, first) for row in array]
    else:
        return _by_name(arrays, outputs)
    if others:
        for prediction, named in zip(predictions, _by_name(arrays, tuple(others)), strict=True):
            prediction["outputs"] = named
    return predictions


def probabilities(scores: Array, output: Output) -> Array:
    """Class probabilities (N, classes), float64, of an output's scores (N, classes), (N, 1) or (N,).

    A single sigmoid score becomes two columns, class 1 last. Where the output has no activation the scores come back as
    they are. Raises ModelFailed for NaN.
    """
    values = scores.astype(np.float64).reshape(len(scores), -1)
    single = output.activation == "sigmoid" and values.shape[1] == 1
    if not output.activated and output.activation == "softmax":
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        values = powers / powers.sum(axis=1, keepdims=True)
    elif not output.activated and output.activation == "sigmoid":
        values = _sigmoid(np.concatenate((-values, values), axis=1) if single else values)
    elif single:
        values = np.concatenate((1 - values, values), axis=1)
    if np.isnan(values).any():
        raise _not_a_number(output)
    return values


def _classes(array: Array, output: Output, top_k: int) -> list[Prediction]:
    width = _scores_per_row(array)
    if output.activation == "softmax" and not output.activated and width is not None and width <= _SHORT:
        rows = [_softmax(row, output) for row in array.tolist()]
    else:
        rows = probabilities(array, output).tolist()
    return [_ranked(row, output, top_k) for row in rows]


def _softmax(row: list[float], output: Output) -> list[float]:
    highest = max(row)
    powers = [math.exp(score - highest) for score in row]
    total = sum(powers)
    if math.isnan(total):
        raise _not_a_number(output)
    return [power / total for power in powers]


def _ranked(row: list[float], output: Output, top_k: int) -> Prediction:
    """Equal scores rank by index, as argmax does."""
    number = "score" if output.activation == "none" else "probability"
    labels = output.labels
    order = (
        sorted(range(len(row)), key=row.__getitem__, reverse=True)[: max(top_k, 1)] if len(row) <= _SHORT else _largest(row, max(top_k, 1))
    )
    top = [{"label": labels[index] if labels else str(index), "index": index, number: row[index]} for index in order]
    return {**top[0], "top": top[:top_k]}


def _largest(row: list[float], count: int) -> list[int]:
    indices: list[int] = np.argsort(-np.array(row), kind="stable")[:count].tolist()
    return indices


def _values(array: Array) -> list[Prediction]:
    rows = to_json(array.reshape(len(array), -1))
    if array.ndim <= 2 and array.size == len(array):
        return [{"value": row[0]} for row in rows]
    return [{"values": row} for row in to_json(array)]


def _mask(scores: Array, output: Output) -> Prediction:
    """The class of each pixel as a grey PNG whose values are the class indices.

    `scores` is (classes, H, W) or (H, W, classes) by the output's layout; with one channel, sigmoid, the class is 1
    beyond a probability of a half.
    """
    planes = scores if output.layout != "NHWC" else scores.transpose(2, 0, 1)
    if np.isnan(planes).any():
        raise _not_a_number(output)
    half = 0.5 if output.activated else 0.0
    classes = planes[0] > half if len(planes) == 1 else planes.argmax(axis=0)
    labels = {str(index): label for index, label in enumerate(output.labels)}
    return {"b64": b64encode(encode_png(classes.astype(np.uint8))).decode(), "media_type": "image/png", "labels": labels}


def _by_name(arrays: Mapping[str, Array], outputs: tuple[Output, ...]) -> list[Prediction]:
    columns = {output.name: to_json(arrays[output.name]) for output in outputs}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _scores_per_row(array: Array) -> int | None:
    """None where the output isn't one row of scores an instance."""
    if array.ndim == 2:
        return int(array.shape[1])
    return 1 if array.ndim == 1 else None


def _sigmoid(values: Array) -> Array:
    with np.errstate(over="ignore"):
        result: Array = 1 / (1 + np.exp(-values))
    return result


def _not_a_number(output: Output) -> ModelFailed:
    return ModelFailed(f"the model's output {output.name!r} is not a number for this instance")

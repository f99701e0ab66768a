"""Nested lists, numbers and labels to one row of an input tensor, exact in shape and dtype; and the same checks for arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from service.codecs.numbers import Array, exact, parse, require_finite
from service.errors import BadInput, UnknownChoice
from service.manifest import Input, Shape


def decode_tensor(value: object, declared: Input) -> Array:
    """One row of an input, without the batch axis, from JSON: nested lists, a number, or labels where the input has some.

    Missing values are null where `allow_missing` says so. Raises BadInput (ragged lists, another shape or kind, fractions
    or out-of-range values for an integer input, NaN) and UnknownChoice (a label).
    """
    what = f"input {declared.name!r}"
    if declared.labels:
        value = _indices_of_labels(value, declared.labels, what)
    if declared.dtype == "string":
        return _checked_shape(_strings(value, what), declared, what)
    array = parse(value, declared.dtype, what)
    if array.dtype.kind == "O" and declared.allow_missing:
        array = _with_missing(array, what)
    return check_tensor(array, declared)


def check_tensor(array: Array, declared: Input) -> Array:
    """`array`, one row of an input, in the declared dtype, where its shape, values and finiteness are as declared.

    No copy where it fits as it is. Raises as `decode_tensor` does.
    """
    what = f"input {declared.name!r}"
    if declared.dtype != "string":
        array = exact(array, declared.dtype, what)
    array = _checked_shape(array, declared, what)
    if not declared.allow_missing:
        require_finite(array, what)
    if declared.range and array.dtype.kind in "iu" and array.size:
        _require_range(array, declared.range, what)
    if declared.labels and array.size and not 0 <= int(array.min()) <= int(array.max()) < len(declared.labels):
        wrong = int(array.min()) if int(array.min()) < 0 else int(array.max())
        raise UnknownChoice(f"class index of {what}", wrong, [f"0 to {len(declared.labels) - 1}", *declared.labels])
    return array


def _require_range(array: Array, span: tuple[float, float], what: str) -> None:
    """Integers are indices (token ids, categories), and a model fails on one that it has no row for; floats may go beyond."""
    low, high = span
    if not low <= int(array.min()) <= int(array.max()) <= high:
        raise BadInput(f"{what}: got numbers from {array.min()} to {array.max()}, expected {low:.0f} to {high:.0f}")


def _checked_shape(array: Array, declared: Input, what: str) -> Array:
    if len(array.shape) != len(declared.shape) or any(
        want is not None and got != want for got, want in zip(array.shape, declared.shape, strict=True)
    ):
        raise BadInput(f"{what}: got shape {_shown(array.shape)}, expected {_shown(declared.shape)}")
    if array.size == 0 and 0 not in declared.shape:
        raise BadInput(f"{what}: got shape {_shown(array.shape)}, which holds no value")
    return array


def _shown(shape: Shape) -> str:
    return str(["any" if size is None else size for size in shape]).replace("'", "")


def _indices_of_labels(value: Any, labels: tuple[str, ...], what: str) -> Any:
    if isinstance(value, str):
        try:
            return labels.index(value)
        except ValueError:
            raise UnknownChoice(f"label of {what}", value, labels) from None
    return [_indices_of_labels(item, labels, what) for item in value] if isinstance(value, list) else value


def _with_missing(array: Array, what: str) -> npt.NDArray[np.float64]:
    wrong = next((value for value in array.ravel() if value is not None and type(value) not in (int, float)), None)
    if wrong is not None:
        raise BadInput(f"{what}: got {type(wrong).__name__}, expected numbers or null")
    return np.array([math.nan if value is None else value for value in array.ravel()], np.float64).reshape(array.shape)


def _strings(value: object, what: str) -> Array:
    try:
        array = np.array(value, dtype=np.object_)
    except ValueError:
        raise BadInput(f"{what}: the lists are ragged: every row must have the same length") from None
    if not all(isinstance(item, str) for item in array.ravel()):
        raise BadInput(f"{what}: expected strings")
    return array

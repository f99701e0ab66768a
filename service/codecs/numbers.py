"""JSON numbers to numpy and back, exactly: nothing is rounded to an integer, wrapped around or turned into null."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from service.errors import BadInput

Array = npt.NDArray[Any]

NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""How JSON carries what it has no numbers for: as the strings of protobuf's JSON mapping, which `np.array` and Python's `float` read."""


def from_json(value: object, dtype: npt.DTypeLike, what: str) -> Array:
    """The array of a number or of nested lists of numbers, in `dtype` (bool, integers, floats; not strings).

    The shape is the nesting's. Raises BadInput, its message beginning with `what`, for ragged lists, anything that is no
    number, fractions or out-of-range values for an integer dtype, overflow to infinity for a float one.
    """
    return exact(parse(value, dtype, what), dtype, what)


def parse(value: object, dtype: npt.DTypeLike, what: str) -> Array:
    """The array of nested lists, in whatever dtype numpy finds for them: the first half of `from_json`. Raises BadInput."""
    try:
        array = np.array(value)
    except ValueError:
        raise BadInput(f"{what}: the lists are ragged: every row must have the same length") from None
    if np.dtype(dtype) == np.uint64 and array.dtype.kind == "f":  # numpy mixes 0 and 2**64 - 1 into float64
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            whole = np.array(value, np.uint64)
            return whole if (whole.astype(np.float64) == array).all() else array
    return array


def exact(array: Array, dtype: npt.DTypeLike, what: str) -> Array:
    """`array` in `dtype` where each of its values is one of that dtype's; rounding to the nearest float is no error.

    Returns the array itself where it has the dtype already. Raises BadInput as `from_json` does.
    """
    wanted = np.dtype(dtype)
    if array.dtype == wanted:
        return array
    if not array.size and array.dtype.kind == "f":  # [] has no type of its own
        return array.astype(wanted)
    if array.dtype.kind not in "buif":
        raise BadInput(f"{what}: got {_kinds_in(array)}, expected numbers ({wanted})")
    return _CONVERSIONS[wanted.kind](array, wanted, what)


def require_finite(array: Array, what: str) -> None:
    """Raises BadInput where a float array holds NaN or an infinity."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        first = np.argwhere(~np.isfinite(array))[0].tolist()
        raise BadInput(f"{what}: got {array[tuple(first)]} at {first}, expected finite numbers only")


def to_json(array: Array) -> Any:
    """Nested lists (a scalar for shape ()) that a strict JSON parser reads: non-finite floats as the strings of NON_FINITE."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return array.tolist()
    named = array.astype(object)
    named[np.isnan(array)] = "NaN"
    named[np.isposinf(array)] = "Infinity"
    named[np.isneginf(array)] = "-Infinity"
    return named.tolist()


def _kinds_in(array: Array) -> str:
    if array.dtype.kind in "US":
        return "strings"
    if array.dtype.kind == "O":
        kinds = {"null" if value is None else type(value).__name__ for value in array.ravel()}
        return " and ".join(sorted(kinds))
    return str(array.dtype)


def _to_float(array: Array, dtype: np.dtype[Any], what: str) -> Array:
    if array.dtype.kind == "b":
        raise BadInput(f"{what}: got booleans, expected numbers ({dtype})")
    with np.errstate(over="ignore"):
        result = array.astype(dtype)
    if array.dtype.kind != "f" or array.dtype.itemsize > dtype.itemsize:
        overflown = np.isinf(result)
        if overflown.any() and (array.dtype.kind != "f" or np.isfinite(array[overflown]).any()):
            raise BadInput(f"{what}: got a number beyond the range of {dtype} (at most {np.finfo(dtype).max})")
    return result


def _to_integer(array: Array, dtype: np.dtype[Any], what: str) -> Array:
    limits = np.iinfo(dtype)
    if array.dtype.kind == "b":
        raise BadInput(f"{what}: got booleans, expected whole numbers ({dtype})")
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (np.floor(array) == array).all()):
        raise BadInput(f"{what}: got a fraction or no finite number, expected whole numbers ({dtype})")
    # int() of the extremes: numpy would compare a float64 with a rounded iinfo.max
    if array.size and not (limits.min <= int(array.min()) and int(array.max()) <= limits.max):
        raise BadInput(f"{what}: got numbers from {array.min()} to {array.max()}, expected {limits.min} to {limits.max} ({dtype})")
    return array.astype(dtype)


def _to_bool(array: Array, dtype: np.dtype[Any], what: str) -> Array:
    if not np.isin(array, (0, 1)).all():
        raise BadInput(f"{what}: expected true or false (or 1 and 0)")
    return array.astype(dtype)


_CONVERSIONS: dict[str, Callable[[Array, np.dtype[Any], str], Array]] = {
    "f": _to_float,
    "i": _to_integer,
    "u": _to_integer,
    "b": _to_bool,
}

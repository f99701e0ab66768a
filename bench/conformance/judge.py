"""Whether outputs are those expected, by the backend suite's own rule, and what went wrong where they aren't."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

BFLOAT16_RTOL = 2.0**-6
"""The suite's: two units in the last place."""


class WrongValue(Exception):
    """An output has other values than expected."""


class WrongShape(WrongValue):
    """An output has another shape than expected."""


class WrongType(WrongValue):
    """An output has another element type than expected."""


def compare(got: Sequence[Any], expected: Sequence[Any], rtol: float, atol: float) -> None:
    """Raises WrongValue, or its subclass for what is wrong, where outputs (or the members of a sequence) differ."""
    if len(got) != len(expected):
        raise WrongShape(f"{len(got)} values where {len(expected)} are expected")
    for mine, theirs in zip(got, expected, strict=True):
        if isinstance(theirs, list | tuple):
            if not isinstance(mine, list | tuple):
                raise WrongType("a tensor where a sequence is expected")
            compare(mine, theirs, rtol, atol)
        elif theirs is None or mine is None:
            if mine is not theirs:
                raise WrongType("a value where none is expected" if theirs is None else "none where a value is expected")
        else:
            _compare(np.asarray(mine), np.asarray(theirs), rtol, atol)


def _compare(got: np.ndarray, expected: np.ndarray, rtol: float, atol: float) -> None:
    if got.shape != expected.shape:
        raise WrongShape(f"shape {got.shape} where {expected.shape} is expected")
    if expected.dtype.kind in "OUS":
        if not np.array_equal(got.astype(str), expected.astype(str)):
            raise WrongValue("other strings than expected")
        return
    if got.dtype != expected.dtype:
        raise WrongType(f"{got.dtype} where {expected.dtype} is expected")
    if expected.dtype.kind not in "fciub":  # numpy can't promote ml_dtypes' types with a Python float
        rtol = max(rtol, BFLOAT16_RTOL) if expected.dtype.name == "bfloat16" else rtol
        got, expected = got.astype(np.float32), expected.astype(np.float32)
    try:
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol)
    except AssertionError as error:
        raise WrongValue(" ".join(str(error).split())[:200]) from None

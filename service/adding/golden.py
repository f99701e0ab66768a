"""Golden cases from the trial: rows that were run at add time, with ONNX Runtime's own answers, computed without the service.

They don't say that the model is right; they say that the server answers as ONNX Runtime did when the bundle was made.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.adding.trial import Trial
from service.manifest import Golden, GoldenCase, Input, Output

_MOST_NUMBERS = 20_000
"""In one instance: a bundle shall not be a megabyte of noise."""
_TOLERANCE = 1e-3


def golden_of(inputs: Sequence[Input], outputs: Sequence[Output], trial: Trial) -> Golden | None:
    """One case of one row; None where there was no trial, where answers vary, or where a row can't be written as numbers."""
    numbers = sum(array[0].size for array in trial.feeds.values())
    plain = all(i.text is None and i.audio is None and i.dtype != "string" for i in inputs)
    first = outputs[0]
    if not trial.feeds or not trial.deterministic or trial.independent is not True or not plain or numbers > _MOST_NUMBERS:
        return None
    expected = _expected(first, trial.ran[first.name][0])
    if expected is None:
        return None
    row = {i.name: trial.feeds[i.name][0].tolist() for i in inputs}
    instance: Any = row if len(row) > 1 else next(iter(row.values()))
    body = base64.b64encode(json.dumps({"instances": [instance]}).encode()).decode()
    return Golden(cases=(GoldenCase(content_type="application/json", body_b64=body, expected=[expected], tolerance=_TOLERANCE),))


def _expected(output: Output, row: NDArray[Any]) -> dict[str, Any] | None:
    """The part of an answer that is compared, from the output's row by the textbook, in float64."""
    if not np.isfinite(row).all() or output.kind not in ("classes", "value"):
        return None
    values = row.astype(np.float64).reshape(-1)
    if output.kind == "value":
        return {"value": float(values[0])} if values.size == 1 else {"values": values.tolist()}
    if output.activation == "none":
        return {"index": int(values.argmax())}
    if not output.activated:
        values = (
            1 / (1 + np.exp(-values))
            if output.activation == "sigmoid"
            else np.exp(values - values.max()) / np.exp(values - values.max()).sum()
        )
    if values.size == 1 and output.activation == "sigmoid":
        values = np.array([1 - values[0], values[0]])
    ranked = np.sort(values)
    if ranked.size > 1 and ranked[-1] - ranked[-2] < 10 * _TOLERANCE:
        return None  # on another machine the other might win
    return {"index": int(values.argmax()), "probability": float(values.max())}

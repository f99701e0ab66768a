"""Whether the twin computes what the served model computes: API.md's parity error and its limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

Array = NDArray[Any]
LIMIT: Final = 1e-4
LIMIT_16_BIT: Final = 5e-3
_16_BIT = frozenset({onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})


def parity_error(twin: Mapping[str, Array], served: Mapping[str, Array]) -> float:
    """max|twin - served| / max(1, max|served|), the largest over the outputs in `served` (strings left out). Infinite where
    shapes differ."""
    return max((_error(twin[name], array) for name, array in served.items() if array.dtype.kind not in "OUS"), default=0.0)


def _error(twin: Array, served: Array) -> float:
    if twin.shape != served.shape:
        return float("inf")
    if served.size == 0:
        return 0.0
    wanted, got = served.astype(np.float64), twin.astype(np.float64)
    same = (wanted == got) | (np.isnan(wanted) & np.isnan(got))  # infinities and missing values where both have them
    difference = np.where(same, 0.0, np.abs(got - np.where(same, 0.0, wanted)))
    scale = np.abs(wanted[np.isfinite(wanted)]).max(initial=1.0)
    return float(np.nan_to_num(difference, nan=np.inf).max() / scale)


def limit(model: onnx.ModelProto) -> float:
    """The parity error up to which this model's twin is used."""
    values = (*model.graph.input, *model.graph.output)
    kinds = {t.data_type for t in model.graph.initializer} | {v.type.tensor_type.elem_type for v in values}
    return LIMIT_16_BIT if kinds & _16_BIT else LIMIT

"""What a layer operation found, and how it travels between the explainer and the server: tensors beside a JSON text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from service.codecs.v2 import InferResponse, Tensor

Array = NDArray[Any]
REFERENCE = "reference."
"""Real instances travel as tensors `reference.<number>.<input>`."""
Operation = Literal["layers", "filters", "activations", "explain-layer", "visualise"]


@dataclass(frozen=True, slots=True, eq=False)
class Studied:
    """`fields` are JSON values; `rows` one dict an instance or unit: JSON values, and the names of its arrays by field."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    rows: tuple[Mapping[str, Any], ...] = ()


def encode(studied: Studied, model: str, version: str, request_id: str = "") -> InferResponse:
    """Arrays among the rows' values travel as tensors."""
    tensors: list[Tensor] = []
    rows = []
    for row in studied.rows:
        plain: dict[str, Any] = {}
        arrays: dict[str, str] = {}
        for name, value in row.items():
            if isinstance(value, np.ndarray):
                arrays[name] = str(len(tensors))
                tensors.append(Tensor(arrays[name], np.ascontiguousarray(value)))
            else:
                plain[name] = value
        rows.append({"plain": plain, "arrays": arrays})
    return InferResponse(model, tuple(tensors), version, request_id, {"studied": orjson.dumps([dict(studied.fields), rows]).decode()})


def decode(response: InferResponse) -> Studied:
    """What `encode` put into a response."""
    arrays = {tensor.name: tensor.array for tensor in response.outputs}
    fields, rows = orjson.loads(str(response.parameters["studied"]))
    return Studied(fields, tuple(row["plain"] | {name: arrays[key] for name, key in row["arrays"].items()} for row in rows))

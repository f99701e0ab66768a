"""Golden cases: request bodies as a client sends them, with the answers as torch, not the service, computes them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from service.manifest import GoldenCase

TOP_K = 5
"""What the service answers with where a request doesn't say (or fewer, where there are fewer classes)."""


def json_case(instances: Sequence[Any], expected: list[Any], tolerance: float = 1e-4) -> GoldenCase:
    """`{"instances": [..]}` as application/json."""
    return raw_case("application/json", json.dumps({"instances": list(instances)}).encode(), expected, tolerance=tolerance)


def raw_case(
    content_type: str, body: bytes, expected: list[Any], query: dict[str, str] | None = None, tolerance: float = 1e-4
) -> GoldenCase:
    """A body of one instance, parameters in the query."""
    return GoldenCase(
        content_type=content_type, query=query or {}, body_b64=base64.b64encode(body).decode(), expected=expected, tolerance=tolerance
    )


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A PNG file of grey (H, W) or RGB (H, W, 3) pixels."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()


def b64_instance(content: bytes) -> dict[str, str]:
    """An encoded image or sound as an instance of a JSON body."""
    return {"b64": base64.b64encode(content).decode()}


def classifications(logits: Tensor, labels: Sequence[str], activation: Literal["softmax", "sigmoid"] = "softmax") -> list[dict[str, Any]]:
    """The contract's predictions for `logits` (N, classes), or (N, 1) with sigmoid: the logit of the second of two labels."""
    if activation == "sigmoid":
        if logits.shape[-1] != 1 or len(labels) != 2:
            raise ValueError(f"sigmoid needs one logit and two labels, got {logits.shape[-1]} and {len(labels)}")
        second = torch.sigmoid(logits.double())
        probabilities = torch.cat([1 - second, second], -1)  # (N, 2)
    else:
        probabilities = torch.softmax(logits.double(), -1)  # (N, classes)
    return [_classification(row.tolist(), labels) for row in probabilities]


def _classification(probabilities: list[float], labels: Sequence[str]) -> dict[str, Any]:
    ranked = sorted(range(len(labels)), key=lambda index: -probabilities[index])[:TOP_K]
    top = [{"label": labels[index], "index": index, "probability": probabilities[index]} for index in ranked]
    return {**top[0], "top": top}

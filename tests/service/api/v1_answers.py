"""What tests of V1 share: the bundles by kind, and answers held against ONNX Runtime."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from support import BUNDLES, Bundle

GENERATORS = [b for b in BUNDLES if any(o.kind == "image" for o in b.manifest.outputs)]
PICTURES = [b for b in BUNDLES if b.manifest.inputs[0].image]
TEXTS = [b for b in BUNDLES if b.manifest.inputs[0].text]
TABLES = [b for b in BUNDLES if b.manifest.inputs[0].table]
SEVERAL = [b for b in BUNDLES if len(b.manifest.inputs) > 1]


def of(bundles: list[Bundle]) -> Any:
    return pytest.mark.parametrize("bundle", bundles, ids=lambda b: b.name)


def agrees(bundle: Bundle, number: int, prediction: dict[str, Any], tolerance: float = 2e-5) -> None:
    """Asserts that a prediction is what ONNX Runtime computes for the bundle's row of that number."""
    output = bundle.manifest.outputs[0]
    if output.kind != "classes":
        expected = bundle.run(bundle.row(number))
        for name, array in expected.items():
            np.testing.assert_allclose(np.array(prediction[name]), array, rtol=1e-4, atol=1e-2 if output.kind == "image" else 1e-5)
        return
    probabilities = bundle.probabilities(bundle.row(number))
    best = int(probabilities.argmax())
    assert (prediction["index"], prediction["label"]) == (best, output.labels[best])
    assert prediction["probability"] == pytest.approx(probabilities[best], abs=tolerance)
    order = np.argsort(-probabilities)[:5]
    assert [entry["index"] for entry in prediction["top"]] == order.tolist()
    assert [entry["probability"] for entry in prediction["top"]] == pytest.approx(probabilities[order].tolist(), abs=tolerance)


def others(bundle: Bundle, number: int = 0) -> dict[str, str]:
    """The inputs behind the first one, as a query has them."""
    row = bundle.row(number)
    return {i.name: json.dumps(row[i.name].tolist()) for i in bundle.manifest.inputs[1:]}

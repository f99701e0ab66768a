"""An explanation on its way between processes: what arrives is what was sent, with the numbers as tensors or without."""

from __future__ import annotations

import numpy as np
import pytest

from service.codecs.v2 import RequestedOutput, decode_response, encode_response
from service.explain.answer import INDICES, SCALARS, ExplainAnswer, Explanation, decode, encode

FIGURES = {
    "instance_output": 1.5,
    "baseline_output": None,
    "convergence_delta": 0.25,
    "completeness_error": 0.01,
    "parity_error": None,
    "predicted_index": 3,
    "target_index": None,
    "method": "saliency",
    "warnings": ["some"],
}
SENT = ExplainAnswer(
    (
        Explanation({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float32([7.0])}, FIGURES),
        Explanation(None, {**FIGURES, "target_index": 1}),
    )
)
SHAPES = {"a": (2, 3), "b": (1,)}


@pytest.mark.parametrize("numbers", [True, False])
def test_what_arrives_is_what_was_sent(numbers: bool):
    response = encode(SENT, SHAPES, "model", "1", "id", numbers=numbers)
    names = [tensor.name for tensor in response.outputs]
    body, length = encode_response(response, [RequestedOutput(name, True) for name in names])
    found = decode(decode_response(body, length))
    assert [one.fields for one in found.explanations] == [one.fields for one in SENT.explanations]
    first, second = (one.attributions for one in found.explanations)
    assert second is None
    for name, array in SENT.explanations[0].attributions.items():
        np.testing.assert_array_equal(first[name], array)


def test_numbers_are_tensors_too_for_who_reads_only_those():
    tensors = {tensor.name: tensor.array for tensor in SENT.tensors(SHAPES)}
    assert set(tensors) == {"attributions.a", "attributions.b", *INDICES, *SCALARS}
    np.testing.assert_array_equal(tensors["target_index"], [-1, 1])
    np.testing.assert_array_equal(tensors["baseline_output"], np.float32([np.nan, np.nan]))
    assert np.isnan(tensors["attributions.a"][1]).all()
    assert [tensor.name for tensor in SENT.tensors(SHAPES, numbers=False)] == ["attributions.a", "attributions.b"]

"""Attributions laid out as the instance was sent."""

from __future__ import annotations

import numpy as np
import orjson

from service.codecs.explanation import encode_explanation
from service.codecs.instance import Instance
from service.manifest import Column, Input, Manifest, Output, TablePolicy

INPUTS = (
    Input(name="latent", codec="tensor", dtype="float32", shape=(2, 3)),
    Input(name="class", codec="tensor", dtype="int64", shape=()),
)
OUTPUT = Output(name="y", kind="tensor", dtype="float32", shape=(1,))
NOTHING = Instance({}, {}, {}, {})


def manifest(*inputs: Input) -> Manifest:
    return Manifest(name="m", version=1, task="other", inputs=inputs, outputs=(OUTPUT,), files={"model.onnx": "0" * 64})


def encoded(manifest: Manifest, attributions: dict[str, np.ndarray] | None) -> dict:
    fields = {"method": "saliency", "predicted_index": 1, "target_index": 1, "warnings": ["w"]}
    found = encode_explanation(manifest, NOTHING, attributions, fields, "model")
    document: dict = orjson.loads(orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY))
    return document


def test_each_input_keeps_its_own_shape_a_number_too():
    latent = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = encoded(manifest(*INPUTS), {"latent": latent, "class": np.float32([7.5])[0:1].reshape(())})
    assert found["attributions"] == {"latent": [[0, 1, 2], [3, 4, 5]], "class": 7.5}
    assert found["warnings"] == ["w"]
    assert "target_index" not in found


def test_an_array_that_is_a_view_is_written_in_its_own_order():
    columns = np.arange(6, dtype=np.float32).reshape(3, 2).T  # (2, 3), not C-contiguous
    assert encoded(manifest(INPUTS[0]), {"latent": columns})["attributions"] == [[0, 2, 4], [1, 3, 5]]


def test_nothing_to_trust_is_null():
    assert encoded(manifest(INPUTS[0]), None)["attributions"] is None
    assert encoded(manifest(*INPUTS), None)["attributions"] == {"latent": None, "class": None}


def test_a_tables_attributions_come_with_their_columns_names():
    columns = TablePolicy(columns=(Column(name="sugar"), Column(name="pH")))
    row = Input(name="row", codec="table", dtype="float32", shape=(2,), table=columns)
    found = encoded(manifest(row), {"row": np.float32([0.5, -1])})
    assert (found["columns"], found["attributions"]) == (["sugar", "pH"], [0.5, -1])
    both = encoded(manifest(row, INPUTS[1]), {"row": np.float32([0.5, -1]), "class": np.float32(2).reshape(())})
    assert both["columns"] == {"row": ["sugar", "pH"]}

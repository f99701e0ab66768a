"""Bare `model.onnx` files: served with tensors in and out, explained where the graph shows how."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import numpy as np
import onnx
import pytest
from exporters import Words, exported_old, picture_net
from support import started

MOVED = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (uint8[N, 2, 3] x) => (float[N, 3, 2] y)
{
    t = Transpose <perm = [0, 2, 1]> (x)
    y = Cast <to = 1> (t)
}
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    import torch

    root = tmp_path_factory.mktemp("bare")
    for name in ("net", "words", "moved"):
        (root / name / "1").mkdir(parents=True)
    first = {0: "n"}
    exported_old(picture_net(), (torch.zeros(2, 3, 8, 8),), root / "net" / "1" / "model.onnx", ("x",), {"x": first, "scores": first})
    names = ("input_ids", "attention_mask", "token_type_ids")
    ids = torch.ones(2, 5, dtype=torch.int64)
    axes = {name: {0: "n", 1: "t"} for name in names} | {"scores": first}
    exported_old(Words(), (ids, ids, 0 * ids), root / "words" / "1" / "model.onnx", names, axes)
    onnx.save(onnx.parser.parse_model(MOVED), str(root / "moved" / "1" / "model.onnx"))
    with started("--models", str(root)) as server, httpx.Client(base_url=server.url, timeout=70) as client:
        yield client


def test_floats_in_and_out_are_explained(bare: httpx.Client):
    picture = np.random.default_rng(0).standard_normal((3, 8, 8)).tolist()
    response = bare.post("/v1/models/net:explain", json={"instances": [picture], "parameters": {"target": 2}})
    assert response.status_code == 200, response.text
    (explanation,) = response.json()["explanations"]
    assert np.shape(explanation["attributions"]) == (3, 8, 8)
    assert explanation["completeness_error"] <= 0.01


def test_ids_are_attributed_at_their_embedding(bare: httpx.Client):
    row = {"input_ids": [2, 3, 4], "attention_mask": [1, 1, 1], "token_type_ids": [0, 0, 0]}
    response = bare.post("/v1/models/words:explain", json={"instances": [row], "parameters": {"target": 1}})
    assert response.status_code == 200, response.text
    (explanation,) = response.json()["explanations"]
    assert np.shape(explanation["attributions"]["input_ids"]) == (3,)
    assert explanation["completeness_error"] <= 0.01


def test_what_is_moved_before_it_becomes_floats_is_refused_rather_than_attributed_wrongly(bare: httpx.Client):
    """Attributions at the cast would lie transposed; nobody said where else, so there are none by gradients."""
    response = bare.post(
        "/v1/models/moved:explain", json={"instances": [[[1, 2, 3], [4, 5, 6]]], "parameters": {"method": "saliency", "target": 1}}
    )
    assert response.status_code == 400
    assert "attribute_at" in response.json()["error"]

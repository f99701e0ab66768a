"""Warm-up: golden answers are compared as the contract says."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from support import BUNDLES, MODELS, serving

from service.lifecycle import _difference


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        ({"a": 1.0}, {"a": 1.00005, "more": "is fine"}),
        ([{"label": "x", "p": 0.5}], [{"label": "x", "p": 0.50004}]),
        (1e-9, -1e-9),
        (1000.0, 1000.05),
        ([], []),
        (None, None),
        (3, 3.0),
    ],
)
def test_answers_that_agree(expected: Any, got: Any):
    assert _difference(expected, got, 1e-4) == ""


@pytest.mark.parametrize(
    ("expected", "got", "where"),
    [
        ({"a": {"b": [1.0, 2.0]}}, {"a": {"b": [1.0, 2.1]}}, "answer.a.b[1]"),
        ({"a": 1}, {}, "answer.a"),
        ({"label": "x"}, {"label": "y"}, "answer.label"),
        ([1, 2], [1], "answer"),
        ([1], [1, 2], "answer"),
        ({"a": 1}, [1], "answer"),
        (True, 1.5, "answer"),
        (float("nan"), 1.0, "answer"),
        (1.0, float("nan"), "answer"),
        (0.5, "0.5", "answer"),
    ],
)
def test_answers_that_differ_are_located(expected: Any, got: Any, where: str):
    assert where in _difference(expected, got, 1e-4)


async def test_every_committed_bundle_answers_its_golden_requests():
    """That is what READY means; without the warm-up a bundle whose figures moved would serve."""
    async with serving() as client:
        response: httpx.Response = await client.post("/v2/repository/index")
        assert {entry["name"]: (entry["state"], entry["reason"]) for entry in response.json()} == {b.name: ("READY", "") for b in BUNDLES}
    assert all((bundle.folder / "golden.json").is_file() for bundle in BUNDLES), MODELS

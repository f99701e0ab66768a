"""Repeats on the running server: the same again is known, and whatever changes what is computed is computed."""

from __future__ import annotations

from typing import Any

import httpx
from support import Bundle, bundle_named

WINE = bundle_named("wine-mlp")


def explain(client: httpx.Client, *numbers: int, bundle: Bundle = WINE, **parameters: Any) -> list[dict[str, Any]]:
    body = {"instances": [bundle.instance(number) for number in numbers], "parameters": parameters}
    response = client.post(f"{bundle.v1}:explain", json=body)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["explanations"]
    return found


def test_the_same_again_is_known(client: httpx.Client, bundle: Bundle):
    (first,) = explain(client, 40, bundle=bundle, seed=11)
    (again,) = explain(client, 40, bundle=bundle, seed=11, timeout=30, top_k=1)
    assert (first["cached"], again["cached"]) == (False, True)
    assert first | {"cached": True} == again


def test_whatever_changes_what_is_computed_is_computed(client: httpx.Client):
    base = {"seed": 12, "steps": 8}
    changes: list[dict[str, Any]] = [{}, {"seed": 13}, {"steps": 9}, {"target": 0}, {"target": 1}, {"baseline": "zero"}]
    changes += [{"explained": "probability"}, {"quality": True}, {"baseline": WINE.instance(2)}, {"baseline": WINE.instance(3)}]
    assert [explain(client, 41, **base | change)[0]["cached"] for change in changes] == [False] * len(changes)
    assert [explain(client, 41, **base | change)[0]["cached"] for change in changes] == [True] * len(changes)


def test_of_several_instances_each_gets_its_own(client: httpx.Client):
    alone = {number: explain(client, number, seed=14)[0] for number in (50, 52)}
    mixed = explain(client, 51, 52, 53, 50, 51, seed=14)
    assert [each["cached"] for each in mixed] == [False, True, False, True, False]
    assert mixed[1]["attributions"] == alone[52]["attributions"]
    assert mixed[3]["attributions"] == alone[50]["attributions"]
    assert mixed[0] == mixed[4]
    assert len({str(each["attributions"]) for each in mixed}) == 4
    body = {"instances": [WINE.instance(54)] * 2, "parameters": {"targets": [0, 1], "seed": 14}}
    found = client.post(f"{WINE.v1}:explain", json=body).json()["explanations"]
    assert [each["target"]["index"] for each in found] == [0, 1]


def test_hits_are_counted(client: httpx.Client):
    explain(client, 60, seed=15)
    explain(client, 60, seed=15)
    page = client.get("/metrics").text
    for name in ("hits_total", "misses_total", "bytes"):
        (line,) = [line for line in page.splitlines() if line.startswith(f"whyserve_explanation_cache_{name} ")]
        assert float(line.rpartition(" ")[2]) > 0

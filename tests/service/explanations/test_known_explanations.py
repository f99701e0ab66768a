"""Repeats on the running server: the same again is known, and whatever changes what is computed is computed."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from support import Bundle, Server, bundle_named

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


def counted(client: httpx.Client, name: str) -> float:
    page = client.get("/metrics").text.splitlines()
    (line,) = [line for line in page if line.startswith(f"whyserve_explanation_cache_{name} ")]
    return float(line.rpartition(" ")[2])


def test_hits_are_counted(client: httpx.Client):
    before = [counted(client, name) for name in ("hits_total", "misses_total")]
    explain(client, 60, seed=15)
    explain(client, 60, seed=15)
    assert [counted(client, name) for name in ("hits_total", "misses_total")] == [before[0] + 1, before[1] + 1]
    assert counted(client, "bytes") > 0


def test_who_asks_for_the_same_joins_and_stays_when_the_first_hangs_up(client: httpx.Client, server: Server):
    texts = [f"{number} a very long film " * 20 for number in range(3)]
    body = json.dumps({"instances": texts, "parameters": {"steps": 200, "seed": 16}}).encode()
    path = "/v1/models/sst2-gru:explain"
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    assert client.post(path, json={"instances": ["fun"]}).status_code == 200  # the explainer is there
    before = {name: counted(client, name) for name in ("misses_total", "joined_total")}

    def wait_for(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    with ThreadPoolExecutor(1) as other:
        with socket.create_connection(("127.0.0.1", server.port()), 10) as connection:
            connection.sendall(head.encode() + body)
            wait_for(lambda: "whyserve_explain_queue_work_seconds 0.0" not in client.get("/metrics").text)
            joining = other.submit(httpx.post, server.url + path, content=body, headers={"content-type": "application/json"}, timeout=70)
            wait_for(lambda: counted(client, "joined_total") == before["joined_total"] + 3)
        answer = joining.result()
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["explanations"]) == 3
    assert counted(client, "misses_total") == before["misses_total"] + 3  # computed once

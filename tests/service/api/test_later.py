"""Asynchronous explanations on the running server: accepted, fetched in each form, cancelled, bound to a key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from support import bundle_named, digit, is_error, png, serving

from service.api import schemas

WINE = bundle_named("wine-mlp")
PICTURES = bundle_named("mnist-cnn")
TEXTS = bundle_named("sst2-gru")
LATER = {"prefer": "respond-async"}
LONG = {"instances": [f"{number} a very long film " * 20 for number in range(200)], "parameters": {"steps": 1000}}


def accepted(response: httpx.Response) -> str:
    assert response.status_code == 202, response.text
    pending = schemas.Pending.model_validate_json(response.content)
    location: str = response.headers["location"]
    assert location == f"/v1/explanations/{pending.id}"
    assert response.headers["preference-applied"] == "respond-async"
    assert int(response.headers["retry-after"]) >= 1
    return location


def fetched(client: httpx.Client, location: str, **headers: str) -> httpx.Response:
    deadline = time.monotonic() + 30
    while (response := client.get(location, headers=headers)).status_code == 202:
        schemas.Pending.model_validate_json(response.content)
        assert int(response.headers["retry-after"]) >= 1
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return response


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it didn't happen"
        time.sleep(0.05)


def gauge(client: httpx.Client, name: str) -> float:
    (line,) = [line for line in client.get("/metrics").text.splitlines() if line.startswith(name + " ")]
    return float(line.rpartition(" ")[2])


def test_the_answer_is_the_one_that_would_have_come_at_once(client: httpx.Client):
    body = {"instances": [WINE.instance(70), WINE.instance(71)], "parameters": {"method": "integrated_gradients,saliency"}}
    location = accepted(client.post(f"{WINE.v1}:explain", json=body, headers=LATER))
    response = fetched(client, location)
    assert response.status_code == 200, response.text
    schemas.Explanations.model_validate_json(response.content)
    later, now = response.json(), client.post(f"{WINE.v1}:explain", json=body).json()
    assert [e["attributions"] for e in later["explanations"]] == [e["attributions"] for e in now["explanations"]]
    assert later["predictions"] == now["predictions"]
    assert later["agreement"] == now["agreement"]
    assert all(e["cached"] for e in now["explanations"])
    assert client.delete(location).status_code == 204
    for gone in (client.get(location), client.delete(location)):
        is_error(gone, 404)


def test_it_is_drawn_when_it_is_fetched(client: httpx.Client):
    location = accepted(client.post(f"{PICTURES.v1}:explain", content=png(digit(5)), headers=LATER | {"content-type": "image/png"}))
    assert fetched(client, location, accept="image/png").content.startswith(b"\x89PNG")
    page = fetched(client, location, accept="text/html")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    is_error(fetched(client, location, accept="application/pdf"), 406)
    assert fetched(client, location).json()["model_name"] == PICTURES.name
    client.delete(location)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"instances": [[1, 2]]}, "11"),
        ({"instances": [WINE.instance()], "parameters": {"method": "magic"}}, "magic"),
        ({"instances": [WINE.instance()], "parameters": {"timeout": 3600}}, "WHYSERVE_ASYNC_TIMEOUT"),
        ({"instances": [WINE.instance()], "parameters": {"targets": [0, 1]}}, "2 targets"),
    ],
)
def test_what_is_wrong_is_said_at_once(client: httpx.Client, body: dict[str, Any], words: str):
    is_error(client.post(f"{WINE.v1}:explain", json=body, headers=LATER), 400, words)
    is_error(client.post(f"{WINE.v1}:explain", json=body, headers=LATER | {"accept": "application/pdf"}), 406)


def test_what_only_computing_shows_to_be_wrong_is_answered_as_ever(client: httpx.Client):
    body = {"instances": [WINE.instance()], "parameters": {"target": "excellent"}}
    now = client.post(f"{WINE.v1}:explain", json=body)
    later = fetched(client, accepted(client.post(f"{WINE.v1}:explain", json=body, headers=LATER)))
    assert (later.status_code, later.json()) == (now.status_code, now.json())
    is_error(later, 400, "excellent")


def test_a_longer_timeout_than_when_somebody_waits(client: httpx.Client):
    body = {"instances": [WINE.instance(72)], "parameters": {"timeout": 300}}
    is_error(client.post(f"{WINE.v1}:explain", json=body), 400, "WHYSERVE_TIMEOUT")
    assert fetched(client, accepted(client.post(f"{WINE.v1}:explain", json=body, headers=LATER))).status_code == 200


@pytest.mark.parametrize(
    ("prefer", "status"),
    [("respond-async", 202), ("Respond-Async, wait=10", 202), ("return=minimal; x=1, respond-async", 202), ("wait=10", 200)],
)
def test_preferences_are_read_as_rfc_7240_has_them(client: httpx.Client, prefer: str, status: int):
    response = client.post(f"{WINE.v1}:explain", json={"instances": [WINE.instance()]}, headers={"prefer": prefer})
    assert response.status_code == status


def test_deleting_one_that_runs_cancels_the_computing(client: httpx.Client):
    assert client.post(f"{TEXTS.v1}:explain", json={"instances": ["fun"]}).status_code == 200  # the explainer is there
    location = accepted(client.post(f"{TEXTS.v1}:explain", json=LONG, headers=LATER))
    before = gauge(client, "whyserve_stored_explanations_bytes")
    time.sleep(0.5)
    assert client.get(location).status_code == 202
    assert client.delete(location).status_code == 204
    assert gauge(client, "whyserve_stored_explanations_bytes") < before
    started = time.monotonic()  # the explainer, which would be busy for minutes, answers the next one
    assert client.post(f"{TEXTS.v1}:explain", json={"instances": ["funny"]}).status_code == 200
    assert time.monotonic() - started < 15


async def test_another_key_sees_nothing_and_a_full_store_refuses():
    settings = {"api_keys": ("one", "two"), "explainers": 1, "stored_explanations": 1}
    body = {"instances": [WINE.instance()]}
    one, two = {"x-api-key": "one"}, {"authorization": "Bearer two"}
    async with serving(**settings) as client:
        response = await client.post(f"{WINE.v1}:explain", json=body, headers=LATER | one)
        location = accepted(response)
        for method in ("GET", "DELETE"):
            is_error(await client.request(method, location, headers=two), 404)
            is_error(await client.request(method, location), 401)
        refused = await client.post(f"{WINE.v1}:explain", json=body, headers=LATER | two)
        is_error(refused, 503, "WHYSERVE_STORED_EXPLANATIONS")
        assert int(refused.headers["retry-after"]) >= 1
        while (response := await client.get(location, headers=one)).status_code == 202:  # noqa: ASYNC110  # as clients do
            await asyncio.sleep(0.05)
        assert response.status_code == 200, response.text
        assert (await client.delete(location, headers=one)).status_code == 204
        accepted(await client.post(f"{WINE.v1}:explain", json=body, headers=LATER | two))


# ------------------------------------------------------------------------------------------------------ waiting for room

CROWDED = {"explainers": 1, "explainer_queue": 1, "explanation_cache_mib": 0}
"""A line with one place."""
ONE_LONG = {"instances": ["a very long film " * 100], "parameters": {"tolerance": 1e-9, "max_steps": 1000}}
"""Takes it for many seconds."""


async def shown(client: httpx.AsyncClient, name: str) -> float:
    page = (await client.get("/metrics")).text
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(name))


async def became(client: httpx.AsyncClient, name: str, value: float) -> None:
    async with asyncio.timeout(60):
        while await shown(client, name) != value:  # noqa: ASYNC110  # as a monitor does
            await asyncio.sleep(0.05)


async def occupied(client: httpx.AsyncClient) -> str:
    """The place of an asynchronous explanation that fills the line."""
    location = accepted(await client.post(f"{TEXTS.v1}:explain", json=ONE_LONG, headers=LATER))
    async with asyncio.timeout(60):
        while not await shown(client, "whyserve_explain_queue_work_seconds"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return location


async def computed(client: httpx.AsyncClient, location: str) -> httpx.Response:
    async with asyncio.timeout(60):
        while (response := await client.get(location)).status_code == 202:  # noqa: ASYNC110  # as clients do
            await asyncio.sleep(0.05)
    return response


async def test_what_was_accepted_waits_for_room_and_is_computed_once() -> None:
    methods = {"method": "integrated_gradients,saliency,input_x_gradient"}
    bodies = [{"instances": [WINE.instance(number)], "parameters": methods} for number in range(2)]
    async with serving(**CROWDED) as client:
        long = await occupied(client)
        waiting = [accepted(await client.post(f"{WINE.v1}:explain", json=body, headers=LATER)) for body in bodies]
        is_error(await client.post(f"{WINE.v1}:explain", json=bodies[0]), 503, "WHYSERVE_EXPLAINER_QUEUE")  # somebody waits: at once
        await became(client, "whyserve_explain_postponed", 2)
        assert [(await client.get(location)).status_code for location in waiting] == [202, 202]
        assert (await client.delete(long)).status_code == 204
        for location in waiting:
            response = await computed(client, location)
            assert response.status_code == 200, response.text
            assert len(response.json()["explanations"]) == 3
        assert await shown(client, "whyserve_explain_duration_seconds_count{") == 2 * 3
        assert await shown(client, "whyserve_rejected_total{") == 1  # the one that was


async def test_deleting_one_that_waits_for_room_and_the_end_of_its_time() -> None:
    body = {"instances": [WINE.instance()], "parameters": {"timeout": 1.5}}
    async with serving(**CROWDED) as client:
        long = await occupied(client)
        impatient = accepted(await client.post(f"{WINE.v1}:explain", json=body, headers=LATER))
        deleted = accepted(await client.post(f"{WINE.v1}:explain", json={"instances": [WINE.instance()]}, headers=LATER))
        await became(client, "whyserve_explain_postponed", 2)
        assert (await client.delete(deleted)).status_code == 204
        await became(client, "whyserve_explain_postponed", 1)
        is_error(await computed(client, impatient), 504, "timeout", "WHYSERVE_EXPLAINER_QUEUE")
        await became(client, "whyserve_explain_postponed", 0)
        left = accepted(await client.post(f"{WINE.v1}:explain", json={"instances": [WINE.instance()]}, headers=LATER))
        await became(client, "whyserve_explain_postponed", 1)
        assert (await client.get(long)).status_code == (await client.get(left)).status_code == 202
    # and here the server has stopped, with one that ran and one that waited


async def test_turned_off_it_is_a_preference_that_is_not_followed():
    async with serving(stored_explanations=0) as client:
        is_error(await client.post(f"{WINE.v1}:explain", json={"instances": [WINE.instance()]}, headers=LATER), 400, "EXPLAINERS")
        is_error(await client.get("/v1/explanations/x"), 404)

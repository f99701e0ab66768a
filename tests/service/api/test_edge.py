"""What every request passes before any route: keys, the Host check and ids, with settings that a live server hasn't."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import pytest_asyncio
from support import bundle_named, is_error, png, serving

from service.api.edge import Draining, Edge, Keys
from service.caller import ANYONE, Caller
from service.telemetry import Metrics

TABLES = bundle_named("wine-perceptron")
BODY = {"instances": [TABLES.instance()]}
PREDICT = f"{TABLES.v1}:predict"


@pytest_asyncio.fixture
async def keyed(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    (tmp_path / "keys").write_text("from-a-file\nand-another\n")
    settings = {"api_keys": ("one", "two"), "api_keys_file": tmp_path / "keys", "admin_keys": ("boss",)}
    async with serving(**settings) as client:
        yield client


async def test_a_key_is_needed_and_must_be_known(keyed: httpx.AsyncClient):
    missing = await keyed.post(PREDICT, json=BODY)
    is_error(missing, 401, "X-API-Key")
    assert missing.headers["www-authenticate"] == "Bearer"
    for path in ("/v1/models", "/v2", f"/v2/models/{TABLES.name}", TABLES.v1):
        is_error(await keyed.get(path), 401)
    for headers in ({"x-api-key": "wrong"}, {"authorization": "Bearer wrong"}, {"x-api-key": "one "[:2]}, {"x-api-key": "caf\xe9"}):
        is_error(await keyed.post(PREDICT, json=BODY, headers=httpx.Headers(headers, encoding="latin-1")), 403)
    assert "wrong" not in (await keyed.post(PREDICT, json=BODY, headers={"x-api-key": "wrong"})).text


@pytest.mark.parametrize("key", ["one", "two", "from-a-file", "and-another", "boss"])
async def test_keys_from_settings_and_file(keyed: httpx.AsyncClient, key: str):
    for headers in ({"x-api-key": key}, {"authorization": f"Bearer {key}"}):
        assert (await keyed.post(PREDICT, json=BODY, headers=headers)).status_code == 200


async def test_health_metrics_and_documentation_need_no_key(keyed: httpx.AsyncClient):
    for path in ("/v2/health/live", "/v2/health/ready", "/ping", "/metrics", "/docs", "/openapi.json"):
        assert (await keyed.get(path)).status_code == 200


async def test_only_an_administrator_changes_the_repository(keyed: httpx.AsyncClient):
    unload = f"/v2/repository/models/{TABLES.name}/unload"
    is_error(await keyed.post(unload), 401)
    is_error(await keyed.post(unload, headers={"x-api-key": "one"}), 403, "not change")
    is_error(await keyed.post(unload, headers={"x-api-key": "nope"}), 403)
    assert (await keyed.post(PREDICT, json=BODY, headers={"x-api-key": "one"})).status_code == 200
    assert (await keyed.post(unload, headers={"x-api-key": "boss"})).status_code == 200
    is_error(await keyed.post(PREDICT, json=BODY, headers={"x-api-key": "one"}), 503, "unloaded")


async def test_refusals_are_counted_by_reason(keyed: httpx.AsyncClient):
    await keyed.post(PREDICT, json=BODY)
    assert 'whyserve_rejected_total{reason="no_key"} 1.0' in (await keyed.get("/metrics")).text


async def test_without_admin_keys_nobody_changes_the_repository():
    async with serving() as client:
        for verb in ("load", "unload"):
            is_error(await client.post(f"/v2/repository/models/{TABLES.name}/{verb}"), 403, "WHYSERVE_ADMIN_KEYS")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", "10.0.0.1"])
async def test_another_host_is_refused_on_loopback(host: str):
    async with serving() as client:
        is_error(await client.get("/v2/health/live", headers={"host": host}), 400, "loopback")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]", "[::1]:8080"])
async def test_loopback_by_any_name(host: str):
    async with serving() as client:
        assert (await client.get("/v2/health/live", headers={"host": host})).status_code == 200


async def test_any_host_where_the_server_is_public():
    async with serving(host="0.0.0.0") as client:
        assert (await client.get("/v2/health/live", headers={"host": "models.example"})).status_code == 200


async def test_request_ids():
    async with serving() as client:
        assert (await client.get("/v2", headers={"x-request-id": "abc-1"})).headers["x-request-id"] == "abc-1"
        ids = {(await client.get("/v2")).headers["x-request-id"] for _ in range(20)}
        assert len(ids) == 20
        for bad in ("x" * 129, "a\tb", b"caf\xe9"):
            answered = (await client.get("/v2", headers={"x-request-id": bad})).headers["x-request-id"]
            assert answered.isascii()
            assert answered not in (bad, "")
            assert len(answered) <= 128


async def test_limits_are_settings():
    mnist = bundle_named("mnist-cnn")
    async with serving(max_body_mib=1, max_instances=2, max_pixels=1000, max_characters=500) as client:
        large = b'{"instances":[' + b" " * 2**20 + b"1]}"
        for content in (large, pieces(large)):
            is_error(await client.post(PREDICT, content=content, headers={"content-type": "application/json"}), 413, "1048576")
        is_error(await client.post(PREDICT, json={"instances": [TABLES.instance()] * 3}), 413, "at most 2")
        is_error(await client.post(f"{mnist.v1}:predict", content=png(np.zeros((40, 40), np.uint8))), 413, "WHYSERVE_MAX_PIXELS")
        is_error(await client.post("/v1/models/sst2-gru:predict", json={"instances": ["a film " * 90]}), 413, "the limit is 500")


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 100_000):
        yield body[start : start + 100_000]


async def test_explanations_turned_off_are_refused_with_the_reason():
    async with serving() as client:
        is_error(await client.post(f"{TABLES.v1}:explain", json=BODY), 400, "WHYSERVE_EXPLAINERS")
        is_error(await client.get(f"{TABLES.v1}/methods"), 400, "WHYSERVE_EXPLAINERS")


async def test_an_error_nobody_foresaw_is_json_with_an_id_and_without_internals():
    async def broken(scope, receive, send):
        raise RuntimeError("secret internals")

    sent: list[dict] = []

    async def send(message):
        sent.append(message)

    edge = Edge(broken, verbs=[], keys=Keys(), hosts=None, draining=Draining(), rejected=Metrics().rejected)
    scope = {"type": "http", "path": "/v2", "method": "GET", "headers": [(b"x-request-id", b"mine")]}
    await edge(scope, None, send)
    start, body = sent
    assert start["status"] == 500
    assert (b"x-request-id", b"mine") in start["headers"]
    assert json.loads(body["body"])["code"] == "internal"
    assert b"secret" not in body["body"]


async def test_who_asks_is_known_below_by_a_fingerprint_of_the_key():
    """The key itself is not: what is below the edge writes logs and metrics."""
    seen: list[Caller] = []

    async def app(scope, receive, send):
        seen.append(scope["state"]["caller"])

    for keys, headers in (
        (Keys(), []),
        (Keys(frozenset({"one"})), [(b"x-api-key", b"one")]),
        (Keys(frozenset({"one"})), [(b"authorization", b"Bearer one")]),
    ):
        edge = Edge(app, verbs=[], keys=keys, hosts=None, draining=Draining(), rejected=Metrics().rejected)
        await edge({"type": "http", "path": "/v2", "method": "GET", "headers": headers}, None, None)
    assert seen == [ANYONE, Caller(hashlib.sha256(b"one").hexdigest()), Caller(hashlib.sha256(b"one").hexdigest())]


async def test_a_remembered_path_is_still_only_for_its_method():
    async with serving() as client:
        for _ in range(2):
            assert (await client.post(PREDICT, json=BODY)).status_code == 200
            is_error(await client.delete(PREDICT), 405)
            assert (await client.put(PREDICT, json=BODY)).status_code == 200
            is_error(await client.post(f"/v1/models/{'x' * 300}:predict", json=BODY), 404, "no model named")

"""Predictor and explainer as two servers: what a client of the predictor meets, and what the explainer takes from anybody."""

from __future__ import annotations

import asyncio
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from support import BUNDLES, Server, bundle_named, digit, is_error, png, serving, started

MNIST, REVIEWS, TABLE = bundle_named("mnist-cnn"), bundle_named("sst2-gru"), bundle_named("wine-perceptron")
WHY, BODY = f"{TABLE.v1}:explain", {"instances": [TABLE.instance()]}
LONG = {"instances": ["a very " * 130 + "dull film"], "parameters": {"tolerance": 1e-9, "max_steps": 1000}}
"""Many seconds of work that never reaches its tolerance."""
UNCACHED = ("--explanation-cache-mib", "0")
KEYS = {"WHYSERVE_API_KEYS": "between-them"}


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Server, Server]]:
    """A predictor and its explainer, which wants a key."""
    with ExitStack() as stack:
        explainer = stack.enter_context(started("--role", "explainer", environment=KEYS))
        to_it = (*UNCACHED, "--role", "predictor", "--explainer-url", explainer.url, "--explainer-key", "between-them")
        yield stack.enter_context(started(*to_it)), explainer


@pytest.fixture(scope="module")
def predictor(pair: tuple[Server, Server]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=pair[0].url, timeout=70) as client:
        yield client


@pytest.fixture(scope="module")
def explainer(pair: tuple[Server, Server]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=pair[1].url, timeout=70, headers={"x-api-key": "between-them"}) as client:
        yield client


CHANGING = {"id", "seconds", "cached"}


def assert_alike(one: Any, other: Any, where: str = "answer") -> None:
    """The same but for the last digits: how many rows share a pass is measured by each explainer, and rounds differently."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name in one.keys() - CHANGING:
            assert_alike(one[name], other[name], f"{where}.{name}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for number, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_alike(left, right, f"{where}[{number}]")
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4), where
    else:
        assert one == other, where


# ------------------------------------------------------------------------------------------------- what a predictor answers


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{MNIST.v1}:explain", {"instances": [MNIST.instance(3)]}),
        (f"{MNIST.v1}:explain", {"instances": [MNIST.instance(1)], "parameters": {"method": "grad_cam,occlusion"}}),
        (f"{REVIEWS.v1}:explain", {"instances": [REVIEWS.instance(0), REVIEWS.instance(1)]}),
        (WHY, {"instances": [TABLE.instance()], "parameters": {"target": 99}}),
        (f"{TABLE.v1}:explain-layer", BODY),
    ],
)
def test_it_is_what_one_server_for_all_answers(path: str, body: dict[str, Any], predictor: httpx.Client, client: httpx.Client) -> None:
    split, whole = predictor.post(path, json=body), client.post(path, json=body)
    assert split.status_code == whole.status_code
    assert_alike(split.json(), whole.json())


def test_methods_and_layers_too(predictor: httpx.Client, client: httpx.Client) -> None:
    for path in (f"{MNIST.v1}/methods", f"{MNIST.v1}/layers"):
        assert_alike(predictor.get(path).json(), client.get(path).json())


def test_a_predictor_has_no_torch_and_no_processes(pair: tuple[Server, Server], predictor: httpx.Client) -> None:
    assert predictor.post(f"{MNIST.v1}:explain", content=png(digit(0))).status_code == 200
    process = psutil.Process(pair[0].process.pid)
    assert process.children() == []
    assert not [m.path for m in process.memory_maps() if "torch" in m.path]
    (worker,) = psutil.Process(pair[1].process.pid).children()
    assert [m.path for m in worker.memory_maps() if "torch" in m.path]


def test_the_deadline_travels(predictor: httpx.Client) -> None:
    body = LONG | {"parameters": LONG["parameters"] | {"timeout": 1.5}}  # type: ignore[operator]
    begun = time.monotonic()
    answer = predictor.post(f"{REVIEWS.v1}:explain", json=body)
    assert time.monotonic() - begun < 10
    assert answer.status_code == 200, answer.text
    assert answer.json()["explanations"][0]["converged"] is False


def test_who_hangs_up_frees_the_explainer(predictor: httpx.Client, explainer: httpx.Client) -> None:
    with pytest.raises(httpx.ReadTimeout):
        predictor.post(f"{REVIEWS.v1}:explain", json=LONG, timeout=1)
    begun = time.monotonic()
    assert predictor.post(f"{MNIST.v1}:explain", content=png(digit(0))).status_code == 200
    assert time.monotonic() - begun < 10
    counted = 'whyserve_requests_total{model_name="sst2-gru",model_version="1",operation="explain",outcome="cancelled"} 1.0'
    assert counted in explainer.get("/metrics").text


# ------------------------------------------------------------------------------------------------ trouble with the explainer


async def test_an_explainer_that_comes_and_goes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    to_it = {"explainer_url": f"http://127.0.0.1:{port}", "explanation_cache_mib": 0}
    async with serving(role="predictor", explainers=1, **to_it) as client:
        await unreachable(client)
        with started("--role", "explainer", "--port", str(port)) as explainer:
            became_ready(explainer)
            assert (await client.post(WHY, json=BODY)).status_code == 200
        await unreachable(client)


async def unreachable(client: httpx.AsyncClient) -> None:
    """A 503 at once, and nothing else suffers."""
    begun = time.monotonic()
    refused = await client.post(WHY, json=BODY)
    assert time.monotonic() - begun < 5
    is_error(refused, 503, "WHYSERVE_EXPLAINER_URL")
    assert int(refused.headers["retry-after"]) >= 1
    assert (await client.post(f"{TABLE.v1}:predict", json=BODY)).status_code == 200
    assert (await client.get("/v2/health/ready")).status_code == 200


def became_ready(explainer: Server) -> None:
    """As soon as a process answers, and not before: what is sent would wait."""
    with httpx.Client(base_url=explainer.url) as client:
        assert client.get("/v2/health/live").status_code == 200
        deadline = time.monotonic() + 60
        while (answer := client.get("/v2/health/ready")).status_code != 200:
            is_error(answer, 503)
            assert answer.headers["retry-after"]
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert psutil.Process(explainer.process.pid).children()


async def test_a_key_that_the_explainer_does_not_take_is_the_servers_trouble(pair: tuple[Server, Server]) -> None:
    async with serving(role="predictor", explainers=1, explanation_cache_mib=0, explainer_url=pair[1].url, explainer_key="wrong") as client:
        refused = await client.post(WHY, json=BODY)
    is_error(refused, 503, "WHYSERVE_EXPLAINER_KEY")


@pytest.mark.parametrize("path", ["", "/v1"])
async def test_an_address_where_something_else_answers(server: Server, path: str) -> None:
    async with serving(role="predictor", explainers=1, explanation_cache_mib=0, explainer_url=server.url + path) as client:
        refused = await client.post(WHY, json=BODY)
    is_error(refused, 503, "no explainer answers")


@pytest.mark.parametrize(("name", "words"), [(TABLE.name, "isn't the one that is served"), ("only-here", "hasn't this model")])
async def test_a_model_that_the_explainer_has_not(name: str, words: str, pair: tuple[Server, Server], tmp_path: Path) -> None:
    """Another file under the same name, or none at all."""
    shutil.copytree(bundle_named("wine-mlp").folder, tmp_path / name / "1")
    to_it = {"explainer_url": pair[1].url, "explainer_key": "between-them"}
    async with serving(models=tmp_path, role="predictor", explainers=1, **to_it) as client:
        refused = await client.post(f"/v1/models/{name}:explain", json=BODY)
    is_error(refused, 503, words)


async def test_a_predictor_without_explanations_says_so() -> None:
    async with serving(role="predictor", explainers=0) as client:
        is_error(await client.post(WHY, json=BODY), 400, "turned off")


async def test_an_asynchronous_explanation_waits_for_room_in_the_explainers_line() -> None:
    """It isn't counted as refused, on either side: it was postponed."""
    later = {"prefer": "respond-async"}
    with started("--role", "explainer", "--explainer-queue", "1") as explainer:
        became_ready(explainer)
        to_it = {"explainer_url": explainer.url, "explanation_cache_mib": 0}
        async with serving(role="predictor", explainers=1, **to_it) as client, httpx.AsyncClient(base_url=explainer.url) as direct:
            long = (await client.post(f"{REVIEWS.v1}:explain", json=LONG, headers=later)).headers["location"]
            await shows(direct, lambda page: "whyserve_explain_queue_work_seconds 0.0" not in page)
            waiting = (await client.post(WHY, json=BODY, headers=later)).headers["location"]
            page = await shows(direct, lambda page: 'operation="explain",outcome="server_error"} 1.0' in page)
            assert "whyserve_rejected_total{" not in page
            assert (await client.get(waiting)).status_code == 202
            is_error(await client.post(WHY, json=BODY), 503, "WHYSERVE_EXPLAINER_QUEUE")
            for server in (direct, client):
                await shows(server, lambda page: 'whyserve_rejected_total{reason="queue_full"} 1.0' in page)
            assert (await client.delete(long)).status_code == 204
            await shows(client, lambda page: "whyserve_explain_postponed 0.0" in page)
            async with asyncio.timeout(60):
                while (answer := await client.get(waiting)).status_code == 202:  # noqa: ASYNC110  # as clients do
                    await asyncio.sleep(0.1)
            assert answer.status_code == 200, answer.text


async def shows(client: httpx.AsyncClient, condition: Callable[[str], bool]) -> str:
    """The metrics, once they are so."""
    async with asyncio.timeout(60):
        while not condition(page := (await client.get("/metrics")).text):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return page


# ------------------------------------------------------------------------------------------------- what an explainer answers


def test_an_explainer_says_what_it_is(explainer: httpx.Client) -> None:
    assert explainer.get("/v2").json()["role"] == "explainer"
    assert explainer.get("/v2/models").json()["models"] == sorted({b.name for b in BUNDLES})
    assert {e["state"] for e in explainer.post("/v2/repository/index").json()} == {"READY"}
    assert explainer.get(f"/v2/models/{MNIST.name}/ready").json() == {"name": MNIST.name, "ready": True}
    assert explainer.get(f"/v2/models/{MNIST.name}").json()["twin"]["problem"] == ""
    assert explainer.get("/v2/health/ready").status_code == 200
    assert "/v2/models/{name}/explain" in explainer.get("/openapi.json").json()["paths"]


@pytest.mark.parametrize("path", [f"{MNIST.v1}:predict", f"{MNIST.v1}:explain", f"/v2/models/{MNIST.name}/infer"])
def test_what_it_does_not_do_names_the_role(path: str, explainer: httpx.Client) -> None:
    is_error(explainer.post(path, content=b"x"), 404, "explainer", "WHYSERVE_ROLE")


def test_it_checks_its_own_keys(pair: tuple[Server, Server]) -> None:
    is_error(httpx.post(f"{pair[1].url}/v2/models/{MNIST.name}/explain", content=b"{}"), 401)


async def test_a_body_may_be_as_large_as_decoded_tensors_are(tmp_path: Path) -> None:
    """Beyond the public limit, up to a quarter of a process's memory, unless the limit was set."""
    shutil.copytree(TABLE.folder, tmp_path / TABLE.name / "1")
    path, tensors = f"/v2/models/{TABLE.name}/explain", b"\0" * (65 * 2**20)
    header = b'{"inputs": 3}'
    framed = {"inference-header-content-length": str(len(header))}
    for settings, status, words in (({}, 400, "inputs"), ({"max_body_mib": 64}, 413, "WHYSERVE_MAX_BODY_MIB")):
        async with serving(models=tmp_path, role="explainer", explainers=1, **settings) as client:
            is_error(await client.post(path, content=header + tensors, headers=framed), status, words)


def test_it_explains_for_anybody_with_a_key(explainer: httpx.Client, client: httpx.Client) -> None:
    """V2's explain is public: JSON tensors, no hash, the highest version."""
    row = TABLE.row()["row"]
    body = {"inputs": [{"name": "row", "shape": [1, *row.shape], "datatype": "FP32", "data": row.tolist()}]}
    path = f"/v2/models/{TABLE.name}/explain"
    here, there = explainer.post(path, json=body).json(), client.post(path, json=body).json()
    assert_alike(here["outputs"], there["outputs"])


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "words"),
    [
        (f"{TABLE.name}/explain", b"", {}, 400, "header"),
        (f"{TABLE.name}/explain", b"{", {}, 400, "JSON"),
        (f"{TABLE.name}/explain", b"[]", {}, 400, "object"),
        (f"{TABLE.name}/explain", b'{"inputs": 3}', {}, 400, "inputs"),
        (f"{TABLE.name}/explain", b'{"inputs": [{"name": "row"}]}', {}, 400, "shape"),
        (f"{TABLE.name}/explain", b'{"inputs": []}', {}, 400, "inputs"),
        (f"{TABLE.name}/explain", b"{}", {"inference-header-content-length": "7"}, 400, "2 bytes"),
        (f"{TABLE.name}/explain", b'{"parameters": {"timeout": "soon"}}', {}, 400, "timeout"),
        (f"{TABLE.name}/explain", b'{"parameters": {"timeout": 1e12}}', {}, 400, "WHYSERVE_TIMEOUT"),
        (f"{TABLE.name}/explain", b'{"parameters": []}', {}, 400, "parameters"),
        ("nobody/explain", b"{}", {}, 404, "nobody"),
        (f"{TABLE.name}/versions/7/explain", b"{}", {}, 404, "version"),
        (f"{TABLE.name}/versions/1/study/guesses", b"{}", {}, 400, "visualise"),
        (f"{TABLE.name}/versions/1/study/layers", b"{}", {}, 400, "model_sha256"),
    ],
)  # fmt: skip
def test_what_cannot_be_passed_on_is_told_what_was_expected(
    path: str, body: bytes, headers: dict[str, str], status: int, words: str, explainer: httpx.Client
) -> None:
    is_error(explainer.post(f"/v2/models/{path}", content=body, headers=headers), status, words)

"""What befalls explainers never befalls predictions: killed, stopped, flooded, while somebody predicts without a pause."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import psutil
import pytest
from support import Server, bundle_named, is_error, started

REVIEWS, TABLE = bundle_named("sst2-gru"), bundle_named("wine-perceptron")
WHY = f"{REVIEWS.v1}:explain"
PLACES, QUEUE = 8, 12
"""What a process takes at once, and what the line of this server does."""
STALL = 2.0
PATIENCE = 200
"""Seconds that whoever doesn't hang up waits: beside predictions, and what else the machine does, an explainer may start slowly."""
OPTIONS = (
    *("--explainers", "1", "--explainer-stall", str(STALL), "--explainer-queue", str(QUEUE)),
    *("--explanation-cache-mib", "0", "--timeout", str(PATIENCE)),
)

Asked = dict[str, Any]


def review(number: int, **parameters: Any) -> Asked:
    """A long text of its own, for the same one is computed once: some seconds with all of `steps=1000`."""
    own = " ".join("good" if number >> bit & 1 else "bad" for bit in range(10))
    return {"instances": [f"{own} film " + "a very " * 120], "parameters": {"steps": 1000} | parameters}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with started(*OPTIONS) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        assert client.post(WHY, json=review(0, steps=16)).status_code == 200  # the model is there
        yield client


@pytest.fixture(autouse=True)
def predicting(server: Server, client: httpx.Client) -> Iterator[None]:
    """Predictions one after the other beside the test, which begins when an explainer answers: none gets anything but its answer."""
    until(lambda: metric(client, "whyserve_explainers_alive") == 1)
    statuses: list[int] = []
    over = threading.Event()

    def loop() -> None:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            while not over.is_set():
                statuses.append(client.post(f"{TABLE.v1}:predict", json={"instances": [TABLE.instance()]}).status_code)

    with ThreadPoolExecutor(1) as threads:
        looping = threads.submit(loop)
        try:
            yield
        finally:
            over.set()
        looping.result()
    assert len(statuses) > 100
    assert set(statuses) == {200}


def metric(client: httpx.Client, name: str) -> float:
    (value,) = re.findall(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE) or ["0"]
    return float(value)


def replaced(client: httpx.Client, reason: str) -> float:
    return metric(client, f'whyserve_explainer_replaced_total{{reason="{reason}"}}')


def waiting(client: httpx.Client) -> float:
    return metric(client, 'whyserve_explain_queue_length{priority="interactive"}')


def work(client: httpx.Client) -> float:
    """Estimated seconds of what waits or runs."""
    return metric(client, "whyserve_explain_queue_work_seconds")


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def explainer(server: Server) -> psutil.Process:
    (process,) = psutil.Process(server.process.pid).children()
    return process


@contextmanager
def explaining(server: Server, client: httpx.Client, body: Asked) -> Iterator[Future[httpx.Response]]:
    """An explanation that is being computed as the block begins."""
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(httpx.post, server.url + WHY, json=body, timeout=PATIENCE)
        computes(server, client)
        yield answer


def computes(server: Server, client: httpx.Client) -> None:
    """Returns once the explainer works on something; its start is over."""
    until(lambda: metric(client, "whyserve_explainers_alive") == 1 and work(client) > 0)
    process = explainer(server)
    begun = sum(process.cpu_times()[:2])
    until(lambda: sum(process.cpu_times()[:2]) > begun + 0.3)


def test_killed_while_it_explains(server: Server, client: httpx.Client) -> None:
    died = replaced(client, "died")
    with explaining(server, client, review(1)) as answer:
        explainer(server).kill()
        assert answer.result().status_code == 200, answer.result().text
    assert replaced(client, "died") == died + 1


def test_killed_twice_on_one_request(server: Server, client: httpx.Client) -> None:
    """It is told when to come back, and others are answered meanwhile."""
    with explaining(server, client, review(2)) as answer:
        first = explainer(server)
        first.kill()
        until(lambda: not first.is_running())
        computes(server, client)
        explainer(server).kill()
        is_error(answer.result(), 503, "two explainers")
    again = client.post(WHY, json=review(2))
    is_error(again, 503, "this very request")
    assert int(again.headers["retry-after"]) >= 1
    assert client.post(WHY, json=review(3, steps=16)).status_code == 200


@pytest.mark.skipif(sys.platform != "linux", reason="Linux")
def test_stopped_while_it_explains(server: Server, client: httpx.Client) -> None:
    """Whoever has less time than that takes to be found is told in it; the others are answered by the next process."""
    hung = replaced(client, "hung")
    with explaining(server, client, review(4, steps=998)) as answer:  # what it costs isn't known: nobody is refused for it
        explainer(server).suspend()
        assert client.post(WHY, json=review(5, timeout=0.5)).status_code in (503, 504)  # 503 where what it costs is known by now
        assert answer.result().status_code == 200, answer.result().text
    assert replaced(client, "hung") == hung + 1


def test_flooded_by_clients_of_which_half_hang_up(server: Server, client: httpx.Client) -> None:
    """Each of three floods hangs up on more than there are places, in line and running: one place lost each time would leave none."""
    for flood in range(3):
        statuses = asyncio.run(flooded(server.url, 50 * (flood + 1)))
        assert set(statuses) <= {200, 503}
        assert statuses.count(200) >= 1
        assert statuses.count(503) >= 1
    until(lambda: work(client) == 0)
    assert waiting(client) == 0
    assert client.post(WHY, json=review(6, steps=16)).status_code == 200
    with ThreadPoolExecutor(PLACES + 1) as threads:
        bodies = [review(7 + number, steps=199) for number in range(PLACES + 1)]
        answers = [threads.submit(httpx.post, server.url + WHY, json=body, timeout=PATIENCE) for body in bodies]
        until(lambda: waiting(client) == 1)  # all places are taken, one waits for one
        assert [answer.result().status_code for answer in answers] == [200] * (PLACES + 1)
    assert (work(client), waiting(client)) == (0, 0)


async def flooded(url: str, first: int) -> list[int]:
    """What those get that wait for their answer; as many hang up, one after the other."""
    everybody = httpx.Limits(max_connections=None)

    async with httpx.AsyncClient(base_url=url, limits=everybody) as client:

        async def ask(number: int, seconds: float) -> int | None:
            try:
                return (await client.post(WHY, json=review(number, steps=first), timeout=seconds)).status_code
            except httpx.ReadTimeout:
                return None

        asked = [ask(first + number, PATIENCE if number % 2 else 0.2 + number / 50) for number in range(3 * QUEUE)]
        return [status for status in await asyncio.gather(*asked) if status is not None]

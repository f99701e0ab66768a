"""The load generator against servers of known behaviour: counts, errors by status, Retry-After, no coordinated omission."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from service.benching.load import Address, Load, closed_loop, http_request, open_loop, run_load
from service.benching.measure import Level, knee

REQUEST = http_request("/", b"ping", "text/plain")
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\nRetry-After: 60\r\n\r\nbusy"
Answer = Callable[[int], Awaitable[bytes]]


@contextmanager
def answering(answer: Answer) -> Iterator[Address]:
    """A server in a thread; `answer` gets the request's number and returns the bytes of its answer."""
    ready, stop, port, count = threading.Event(), asyncio.Event(), [0], [0]
    loop = asyncio.new_event_loop()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readexactly(len(REQUEST)):
                count[0] += 1
                writer.write(await answer(count[0] - 1))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def serve() -> None:
        async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
            port[0] = server.sockets[0].getsockname()[1]
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield Address("127.0.0.1", port[0])
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


async def good(_: int) -> bytes:
    return GOOD


def test_every_answer_is_counted_with_its_latency():
    with answering(good) as at:
        load = closed_loop(at, [REQUEST], 4, 0.2)
    assert load.requests == len(load.latencies) > 4
    assert load.failures == {}
    assert 0 < load.percentile(50) <= load.percentile(99) <= max(load.latencies)


def test_an_answer_in_pieces_is_one_answer():
    async def large(_: int) -> bytes:
        return b"HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n" + bytes(3_000_000)

    with answering(large) as at:
        load = closed_loop(at, [REQUEST], 1, 0.3)
    assert load.requests > 0
    assert load.failures == {}


def test_errors_are_counted_by_status_and_retry_after_is_honoured():
    async def mostly_busy(number: int) -> bytes:
        return GOOD if number == 0 else BUSY

    with answering(mostly_busy) as at:
        load = closed_loop(at, [REQUEST], 3, 0.3)
    assert load.requests == 1
    assert load.failures == {"503": 3}  # once a connection: none comes back within the minute
    assert load.first_failure == "busy"


def test_run_load_raises_on_an_error_status():
    async def busy(_: int) -> bytes:
        return BUSY

    with answering(busy) as at, pytest.raises(RuntimeError, match="503"):
        run_load(at.port, REQUEST, 1, 0.1)


def test_requests_due_while_the_server_stalls_count_their_wait():
    """One connection, one stall of 0.4 s: of 100 arrivals a second about 40 wait, 0.2 s on average."""

    async def stalling(number: int) -> bytes:
        if number == 5:
            await asyncio.sleep(0.4)
        return GOOD

    with answering(stalling) as at:
        load = open_loop(at, [REQUEST], 100, 1.0, connections=1)
    assert load.failures == {}
    assert sum(latency > 0.1 for latency in load.latencies) > 15
    assert max(load.latencies) >= 0.39


def test_arrivals_keep_their_rate():
    with answering(good) as at:
        load = open_loop(at, [REQUEST], 200, 1.0)
    assert 140 <= load.requests <= 260  # Poisson: 200 +- 4 standard deviations


def test_a_lost_connection_is_a_failure_and_ends_nothing_else():
    async def hanging_up(number: int) -> bytes:
        if number == 3:
            raise ConnectionError
        return GOOD

    with answering(hanging_up) as at:
        load = open_loop(at, [REQUEST], 100, 0.5, connections=1)
    assert load.failures == {"connection lost": 1}
    assert load.requests > 10


def test_nobody_listens():
    with answering(good) as at:
        pass
    with pytest.raises(OSError, match="refused"):
        closed_loop(at, [REQUEST], 1, 0.1)


def test_the_knee_is_the_least_concurrency_near_the_highest_rate():
    levels = [Level(c, Load(r, 1.0, [0.1] * r)) for c, r in ((1, 50), (2, 90), (4, 98), (8, 100), (16, 97))]
    assert knee(levels).concurrency == 4

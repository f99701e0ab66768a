"""A predictor's road to its explainer, with servers at the other end that do what real ones do on bad days."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256

import pytest

from service.caller import ANYONE, Caller
from service.engine.precedence import Precedence
from service.errors import BadParameter, BadRequest, DeadlineExceeded, NotFound, Overloaded, ShareUsedUp, Unavailable, WhyserveError
from service.explain.forwarder import Forwarder
from service.explain.message import Message, caller_from

ANSWER = b"HTTP/1.1 %s\r\nwhyserve-role: explainer\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%s\r\n%s"


@dataclass
class Other:
    """What stands at the other end: each connection's request headers, in order."""

    port: int = 0
    met: list[bytes] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the forwarder has closed a connection."""


@asynccontextmanager
async def other_end(behave: Callable[[int, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[Other]:
    """A server that reads a request's head and then behaves as told, by the number of the connection."""
    other = Other()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other.met.append(await reader.readuntil(b"\r\n\r\n"))
        other.asked.set()
        await behave(len(other.met), writer)
        await reader.read()
        other.left.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    other.port = server.sockets[0].getsockname()[1]
    async with server:
        yield other


def forwarder(other: Other, most: int = 4, key: str | None = None) -> Forwarder:
    return Forwarder(f"http://127.0.0.1:{other.port}", key, most=most, share=0.5, timeout=60, precedence=Precedence())


def question(seconds: float = 10) -> Message:
    return Message("status", "cnn", 1, time.monotonic() + seconds)


def answers(status: bytes = b"200 OK", body: bytes = b"{}", headers: bytes = b"") -> Callable[[int, asyncio.StreamWriter], Awaitable[None]]:
    async def behave(_: int, writer: asyncio.StreamWriter) -> None:
        writer.write(ANSWER % (status, len(body), headers, body))
        await writer.drain()

    return behave


async def hangs(_: int, __: asyncio.StreamWriter) -> None:
    """Says nothing."""


async def closes(_: int, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def closes_at_first(number: int, writer: asyncio.StreamWriter) -> None:
    if number == 1:
        writer.close()
    else:
        await answers()(number, writer)


async def test_a_connection_a_message_and_the_key_on_each() -> None:
    async with other_end(answers()) as other:
        ours = forwarder(other, key="secret")
        for _ in range(3):
            assert (await ours.carry(question())).content == b"{}"
        assert len(other.met) == 3
        assert all(b"x-api-key: secret" in head.lower() for head in other.met)
        await ours.stop()
        with pytest.raises(Unavailable, match="stopping"):
            await ours.carry(question())


async def test_who_asks_travels_along() -> None:
    """The fingerprint of their key, not the key; the priority; the request's id."""
    caller = replace(Caller.by_key(b"their own"), interactive=False, request="a-1", errand="0f")
    async with other_end(answers()) as other:
        await forwarder(other).carry(replace(question(), caller=caller))
        await forwarder(other).carry(question())
    told, untold = (dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if line) for head in other.met)
    assert told[b"whyserve-caller"] == sha256(b"their own").hexdigest().encode()
    assert (told[b"whyserve-interactive"], told[b"x-request-id"]) == (b"false", b"a-1")
    assert caller_from(told, Caller("predictor", request="a-1")) == caller
    assert caller_from(untold, Caller("predictor")) == ANYONE
    assert caller_from({}, Caller("predictor")) == Caller("predictor")
    with pytest.raises(BadRequest, match="Whyserve-Caller"):
        caller_from({b"whyserve-caller": b"x"}, ANYONE)
    with pytest.raises(BadRequest, match="Whyserve-Errand"):
        caller_from({b"whyserve-caller": b"", b"whyserve-errand": b"mine"}, ANYONE)


async def test_what_is_lost_on_the_way_is_asked_once_more() -> None:
    async with other_end(closes_at_first) as other:
        assert (await forwarder(other).carry(question())).content == b"{}"
        assert len(other.met) == 2


async def test_what_is_lost_twice_is_unavailable() -> None:
    async with other_end(closes) as other:
        with pytest.raises(Unavailable, match="can't be reached") as caught:
            await forwarder(other).carry(question())
        assert caught.value.retry_after == 1
        assert len(other.met) == 2


async def test_silence_ends_at_the_deadline_and_takes_its_connection_along() -> None:
    async with other_end(hangs) as other:
        with pytest.raises(DeadlineExceeded):
            await forwarder(other).carry(question(0.2))
        assert len(other.met) == 1
        await asyncio.wait_for(other.left.wait(), 5)


async def test_a_key_takes_its_share_of_the_connections_and_no_more() -> None:
    ann, bob = Caller.by_key(b"ann"), Caller.by_key(b"bob")
    async with other_end(hangs) as other:
        ours = forwarder(other, most=4)
        held = [asyncio.create_task(ours.carry(replace(question(), caller=ann))) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(ShareUsedUp, match="KEY_SHARE"):
            await ours.carry(replace(question(), caller=ann))
        with pytest.raises(DeadlineExceeded):
            await ours.carry(replace(question(0.1), caller=bob))
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)


async def test_no_more_at_once_than_was_set() -> None:
    async with other_end(hangs) as other:
        ours = forwarder(other, most=1)
        first = asyncio.create_task(ours.carry(question()))
        await asyncio.wait_for(other.asked.wait(), 5)
        with pytest.raises(Unavailable, match="EXPLAINER_QUEUE"):
            await ours.carry(question())
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        with pytest.raises(DeadlineExceeded):
            await ours.carry(question(0.1))


@pytest.mark.parametrize(
    ("status", "body", "expected", "words"),
    [
        (b"400 Bad Request", b'{"error": "parameter", "code": "bad_parameter"}', BadParameter, "parameter"),
        (b"503 Busy", b'{"error": "queue full", "code": "unavailable"}', Unavailable, "queue full"),
        (b"429 Share", b'{"error": "queue share of this key", "code": "share_used_up"}', ShareUsedUp, "queue share"),
        (b"404 Not Found", b'{"error": "no model named", "code": "not_found"}', Unavailable, "no model named"),
        (b"401 Who", b'{"error": "a key", "code": "unauthorized"}', Unavailable, "EXPLAINER_KEY"),
        (b"403 No", b"<html>", Unavailable, "EXPLAINER_KEY"),
        (b"500 Broken", b"oops", WhyserveError, "status 500"),
        (b"500 Broken", b"[]", WhyserveError, "status 500"),
    ],
)
async def test_errors_are_as_they_were_raised_or_this_servers_own(
    status: bytes, body: bytes, expected: type[WhyserveError], words: str
) -> None:
    async with other_end(answers(status, body, b"retry-after: 7\r\n")) as other:
        with pytest.raises(expected, match=words) as caught:
            await forwarder(other).carry(question())
    assert not isinstance(caught.value, NotFound)
    if "queue" in words:
        assert caught.value.retry_after == 7


async def test_a_full_line_is_told_from_other_trouble() -> None:
    """Asynchronous explanations come back to the one and not to the other."""
    body = b'{"error": "no room", "code": "unavailable"}'
    async with other_end(answers(b"503 Busy", body, b"retry-after: 7\r\nwhyserve-refused: work_full\r\n")) as other:
        with pytest.raises(Overloaded, match="no room") as caught:
            await forwarder(other).carry(question())
    assert (caught.value.retry_after, caught.value.reason) == (7, "work_full")
    async with other_end(answers(b"503 Busy", body, b"retry-after: 7\r\n")) as other:
        with pytest.raises(Unavailable, match="no room") as other_trouble:
            await forwarder(other).carry(question())
    assert not isinstance(other_trouble.value, Overloaded)


async def test_what_is_no_explainer_is_told_from_one() -> None:
    async def page(_: int, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi")

    async with other_end(page) as other:
        with pytest.raises(Unavailable, match="no explainer answers"):
            await forwarder(other).carry(question())

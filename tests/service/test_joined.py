"""What uvicorn writes arrives whole and in order, an answer in one piece."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from service.joined import JoinedProtocol, JoinedTransport
from service.server import configure

LONG = b"x" * 3_000_000


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """`/long` answers a long body, `/streamed` two pieces a moment apart, any other path what was sent."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/streamed":
        await asyncio.sleep(0.1)
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await asyncio.sleep(0.1)
    await send({"type": "http.response.body", "body": LONG if scope["path"] == "/long" else body})


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    config = configure(app, 60)
    config.lifespan = "off"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listening]))
        reader, writer = await asyncio.open_connection(*listening.getsockname(), limit=1 << 23)
        yield reader, writer
        writer.close()
        server.should_exit = True
        await serving


def request(path: str, body: bytes = b"", *headers: str) -> bytes:
    return "\r\n".join((f"POST {path} HTTP/1.1", "host: x", f"content-length: {len(body)}", *headers, "\r\n")).encode() + body


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


async def answer(reader: asyncio.StreamReader, body: bytes) -> None:
    """Reads one answer, which has just that body."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert await asyncio.wait_for(reader.readexactly(len(body)), 30) == body


async def test_answers_one_after_the_other_and_several_requests_at_once():
    async with connected() as (reader, writer):
        for body in (b"first", b"second"):
            writer.write(request("/", body))
            await answer(reader, chunked(body))
        writer.write(request("/", b"third") + request("/", b"fourth") + request("/long"))
        for body in (b"third", b"fourth", LONG):
            await answer(reader, chunked(body))


async def test_a_stream_starts_before_it_ends():
    async with connected() as (reader, writer):
        writer.write(request("/streamed", b"two"))
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        assert await asyncio.wait_for(reader.readexactly(8), 30) == b"3\r\none\r\n"
        assert await asyncio.wait_for(reader.readexactly(13), 30) == b"3\r\ntwo\r\n0\r\n\r\n"


async def test_a_client_that_waits_for_leave_to_send_gets_it():
    async with connected() as (reader, writer):
        whole = request("/", b"body", "expect: 100-continue")
        writer.write(whole[:-4])
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"body")
        await answer(reader, chunked(b"body"))


async def test_the_last_answer_of_a_connection_is_sent_before_it_closes():
    async with connected() as (reader, writer):
        writer.write(request("/", b"last", "connection: close"))
        whole = await asyncio.wait_for(reader.read(), 30)
        assert whole.endswith(chunked(b"last"))
        assert b"connection: close" in whole


async def test_what_is_no_http_is_refused_in_words():
    async with connected() as (reader, writer):
        writer.write(b"\x16\x03\x01 nonsense\r\n\r\n")
        whole = await asyncio.wait_for(reader.read(), 30)
        assert whole.startswith(b"HTTP/1.1 400 ")
        assert whole.endswith(b"Invalid HTTP request received.")


class Recorded(asyncio.Transport):
    """Notes what reaches it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.seen: list[object] = []

    def write(self, data: object) -> None:
        self.seen.append(data)

    def writelines(self, list_of_data: object) -> None:
        self.seen.append(list_of_data)

    def close(self) -> None:
        self.seen.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.seen


async def test_two_writes_of_one_turn_are_one():
    transport = Recorded()
    joined = JoinedTransport(transport, asyncio.get_running_loop())
    joined.write(b"head")
    joined.write(b"body")
    assert transport.seen == [(b"head", b"body")]
    await asyncio.sleep(0)
    joined.write(b"alone")
    await asyncio.sleep(0)
    assert transport.seen[1:] == [b"alone"]
    joined.write(b"last")
    joined.close()
    await asyncio.sleep(0)
    assert transport.seen[2:] == [b"last", "closed"]
    assert joined.is_closing()
    assert joined.get_extra_info("peername") == ("127.0.0.1", 1)


@pytest.mark.parametrize("attribute", ["pause_reading", "resume_reading", "set_protocol"])
async def test_the_rest_is_the_transport_s_own(attribute: str):
    transport = Recorded()
    assert getattr(JoinedTransport(transport, asyncio.get_running_loop()), attribute) == getattr(transport, attribute)


def test_the_service_runs_on_it():
    config = configure(app, 60)
    config.load()
    assert config.http_protocol_class is JoinedProtocol

"""The client between a server and its explainers, against uvicorn and against servers that do what real ones do on bad days."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import uvloop

from service.explain.address import Address, HostPort, SocketFile
from service.explain.client import Client, Unconnected
from service.explain.connection import Broken

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LARGE = bytes(range(256)) * (32 * 1024)
"""8 MiB: more than any buffer between the two holds."""


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
"""The server runs on uvloop, and where there is none on asyncio's own loop: each test here on both."""


# --------------------------------------------------------------------------------------------------------------- uvicorn


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Echoes: what was sent, in which form the path says."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    head = {"type": "http.response.start", "status": 200, "headers": []}
    match scope["path"]:
        case "/base/echo":
            head["headers"] = [*((b"x-sent-" + name, value) for name, value in scope["headers"]), (b"content-length", b"%d" % len(body))]
        case "/base/none":
            head["status"], body = 204, bytearray()
        case "/base/chunked":
            await send(head)
            for start in range(0, len(body), 100_000):
                await send({"type": "http.response.body", "body": bytes(body[start : start + 100_000]), "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            return
    await send(head)
    await send({"type": "http.response.body", "body": bytes(body)})


class Quiet(uvicorn.Server):
    """Leaves signals to pytest."""

    def capture_signals(self) -> Any:
        return nullcontext()


@asynccontextmanager
async def uvicorn_at(kind: str, folder: Path) -> AsyncIterator[Address]:
    at = {"uds": str(folder / "x.sock")} if kind == "socket" else {"host": "127.0.0.1", "port": 0}
    server = Quiet(uvicorn.Config(app, log_level="error", lifespan="off", loop="none", **at))  # type: ignore[arg-type]
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn tells no other way
        await asyncio.sleep(0.01)
    try:
        if kind == "socket":
            yield SocketFile(folder / "x.sock")
        else:
            yield HostPort.of_url(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/base/")
    finally:
        server.should_exit = True
        await serving


@pytest.mark.parametrize("kind", ["socket", "tcp"])
async def test_what_is_sent_arrives_and_the_answer_too(kind: str, tmp_path: Path) -> None:
    async with uvicorn_at(kind, tmp_path) as address, _closing(Client(address, {"x-key": "k"}, keep=2)) as client:
        base = "/base" if kind == "socket" else ""  # a URL's path stands before the request's
        for _ in range(2):
            answer = await client.request("POST", f"{base}/echo", {"x-more": "1"}, (b"a", memoryview(b"bc")))
            assert (answer.status, answer.content) == (200, b"abc")
            assert {name: answer.headers[f"x-sent-{name}"] for name in ("x-key", "x-more", "host")} == {
                "x-key": "k",
                "x-more": "1",
                "host": address.authority,
            }
            assert (await client.request("GET", f"{base}/echo")).content == b""
            assert (await client.request("POST", f"{base}/echo")).content == b""
            assert (await client.request("GET", f"{base}/none")).status == 204
            assert (await client.request("POST", f"{base}/chunked", body=(b"xy",))).content == b"xy"


@pytest.mark.parametrize("path", ["/echo", "/chunked"])
async def test_large_bodies_both_ways_several_at_once(path: str, tmp_path: Path) -> None:
    async with uvicorn_at("tcp", tmp_path) as address, _closing(Client(address, keep=2)) as client:
        bodies = [LARGE, LARGE[1:], LARGE[:300_000]]
        answers = await asyncio.gather(*(client.request("POST", path, body=(b"head", memoryview(body))) for body in bodies))
        assert [answer.content for answer in answers] == [b"head" + body for body in bodies]
        assert (await client.request("POST", path, body=(b"again",))).content == b"again"


# ------------------------------------------------------------------------------------------------- servers on bad days


Behave = Callable[[int, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Other:
    """A server's own account: how many connections it took, and one event a connection that the client closed."""

    address: Address
    taken: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def other_end(behave: Behave, tls: ssl.SSLContext | None = None) -> AsyncIterator[Other]:
    """Behaves as told, by the number of the connection, then waits for its end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other.taken += 1
        try:
            await behave(other.taken, reader, writer)
            if not await reader.read(1):
                other.left.set()
        except (ConnectionError, asyncio.IncompleteReadError):
            other.left.set()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    other = Other(HostPort("127.0.0.1", server.sockets[0].getsockname()[1]))
    async with server:
        yield other


def says(*answers: bytes, ends: bool = False) -> Behave:
    """To each request of a connection its answer."""

    async def behave(_: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
        if ends:
            writer.close()

    return behave


@asynccontextmanager
async def _closing(client: Client) -> AsyncIterator[Client]:
    try:
        yield client
    finally:
        client.close()


async def get(client: Client) -> bytes:
    async with asyncio.timeout(10):
        return bytes((await client.request("GET", "/")).content)


@pytest.mark.parametrize(("keep", "connections"), [(2.0, 1), (0.0, 3)])
async def test_a_connection_is_kept_or_is_each_requests_own(keep: float, connections: int) -> None:
    async with other_end(says(OK, OK, OK)) as other, _closing(Client(other.address, keep=keep)) as client:
        assert [await get(client) for _ in range(3)] == [b"ok"] * 3
        assert other.taken == connections


async def test_one_that_was_idle_for_too_long_is_not_used() -> None:
    async with other_end(says(OK, OK)) as other, _closing(Client(other.address, keep=0.05)) as client:
        await get(client)
        await asyncio.sleep(0.1)
        await get(client)
        assert other.taken == 2
        await asyncio.wait_for(other.left.wait(), 10)


async def test_one_that_the_server_closes_between_two_requests_is_not_used() -> None:
    async with other_end(says(OK, ends=True)) as other, _closing(Client(other.address, keep=60)) as client:
        await get(client)
        await asyncio.sleep(0.1)
        assert await get(client) == b"ok"
        assert other.taken == 2


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"],
)
async def test_one_that_takes_no_more_is_not_used(answer: bytes) -> None:
    async with other_end(says(answer)) as other, _closing(Client(other.address, keep=60)) as client:
        assert [await get(client) for _ in range(2)] == [b"ok"] * 2
        assert other.taken == 2


@pytest.mark.parametrize("more", [b"\r\nHTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", b"?"])
async def test_what_nobody_asked_for_is_nobodys_answer(more: bytes) -> None:
    async with other_end(says(OK + more, OK)) as other, _closing(Client(other.address, keep=60)) as client:
        assert await get(client) == b"ok"
        await asyncio.sleep(0.05)
        assert await get(client) == b"ok"
        assert other.taken == 2


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\nserver: x\r\n\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nx-end: 1\r\n\r\n", b"abc"),
    ],
)
async def test_answers_in_other_forms(answer: bytes, content: bytes) -> None:
    async with other_end(says(answer, ends=True)) as other, _closing(Client(other.address)) as client:
        assert await get(client) == content


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhalf",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: a\r\n\r\n",
    ],
)
async def test_half_an_answer_and_no_answer_are_none(answer: bytes) -> None:
    async with other_end(says(answer, ends=True)) as other, _closing(Client(other.address, keep=2)) as client:
        with pytest.raises(Broken):
            await get(client)


async def test_garbage_ends_it_though_the_server_stays() -> None:
    async with other_end(says(b"?" * 100)) as other, _closing(Client(other.address, keep=2)) as client:
        with pytest.raises(Broken, match="no HTTP"):
            await get(client)
        await asyncio.wait_for(other.left.wait(), 10)


async def test_cancelling_is_a_hang_up() -> None:
    asked = asyncio.Event()

    async def hangs(_: int, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()

    async with other_end(hangs) as other, _closing(Client(other.address, keep=2)) as client:
        asking = asyncio.create_task(client.request("GET", "/"))
        await asyncio.wait_for(asked.wait(), 10)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(other.left.wait(), 10)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_an_upload_that_nobody_reads(cancelled: bool) -> None:
    """A refusal is read though most of the body was never sent; without one a cancellation ends it."""
    full = asyncio.Event()

    async def refuses(_: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        full.set()
        if not cancelled:
            writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await asyncio.sleep(0.2)

    async with other_end(refuses) as other, _closing(Client(other.address, keep=2)) as client:
        asking = asyncio.create_task(client.request("POST", "/", body=(LARGE, LARGE)))
        await asyncio.wait_for(full.wait(), 10)
        if cancelled:
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            return
        answer = await asyncio.wait_for(asking, 10)
        assert (answer.status, answer.content) == (413, b"no")
        assert (await client.request("GET", "/")).status == 413
        assert other.taken == 2  # half a body in, the first takes no other request


async def test_closed_is_closed_for_those_under_way_too() -> None:
    async with other_end(says(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhalf")) as other:
        client = Client(other.address, keep=2)
        asking = asyncio.create_task(client.request("GET", "/"))
        await asyncio.sleep(0.1)
        client.close()
        with pytest.raises(Broken):
            await asking
        with pytest.raises(Broken, match="closed"):
            await client.request("GET", "/")


@pytest.mark.parametrize("value", ["a\r\nx-other: 1", "a\nb", "a\0"])
async def test_a_header_stays_one_header(value: str) -> None:
    async with other_end(says(OK)) as other, _closing(Client(other.address)) as client:
        with pytest.raises(ValueError, match="line break"):
            await client.request("GET", "/", {"x-request-id": value})
        assert other.taken == 0


# ------------------------------------------------------------------------------------------------------------ connecting


async def test_where_nobody_listens(tmp_path: Path) -> None:
    async with other_end(says(OK)) as other:
        pass
    for address in (other.address, SocketFile(tmp_path / "none.sock"), HostPort("nobody.invalid", 80)):
        with pytest.raises(Broken) as caught:
            await Client(address).request("GET", "/")
        assert not isinstance(caught.value, Unconnected)


async def test_nobody_waits_long_to_be_connected() -> None:
    """TLS with somebody who never says a word."""

    async def silent(_: int, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await reader.read()

    async with other_end(silent) as other:
        assert isinstance(other.address, HostPort)
        client = Client(HostPort("127.0.0.1", other.address.port, ssl.create_default_context()), connect=0.2)
        with pytest.raises(Unconnected):
            await client.request("GET", "/")


@contextmanager
def full_listener(host: str, port: int) -> Iterator[None]:
    """Takes no more connections and refuses none: what a machine that is gone looks like."""
    with socket.socket() as listener:
        listener.bind((host, port))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex((host, port))
        yield
        for one in waiting:
            one.close()


async def test_a_names_next_address_is_tried_where_the_first_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with other_end(says(OK)) as other:
        assert isinstance(other.address, HostPort)
        port = other.address.port

        async def found(*_: Any, **__: Any) -> Any:
            return [(2, 1, 6, "", (host, port)) for host in ("127.0.0.2", "127.0.0.1")]

        monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", found, raising=False)
        with full_listener("127.0.0.2", port):
            assert await get(Client(HostPort("explainer", port))) == b"ok"


@pytest.fixture
def certified(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate that nobody knows, and a server's context with it."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj", "/CN=x"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    if shutil.which("openssl") is None:
        pytest.skip("openssl isn't installed")
    subprocess.run(["openssl", "req", *made, *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context


async def test_tls_with_a_certificate_that_the_system_is_told_of(
    certified: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, theirs = certified
    async with other_end(says(OK, OK), theirs) as other:
        url = f"https://{other.address.authority}"
        with pytest.raises(Broken, match="CERTIFICATE_VERIFY_FAILED"):
            await Client(HostPort.of_url(url)).request("GET", "/")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with _closing(Client(HostPort.of_url(url), keep=2)) as client:
            assert [await get(client) for _ in range(2)] == [b"ok"] * 2


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://explainer:8080", ("explainer:8080", "", False)),
        ("http://explainer/why/", ("explainer:80", "/why", False)),
        ("https://[::1]", ("[::1]:443", "", True)),
    ],
)
def test_urls(url: str, expected: tuple[str, str, bool]) -> None:
    address = HostPort.of_url(url)
    assert (address.authority, address.base, address.tls is not None) == expected

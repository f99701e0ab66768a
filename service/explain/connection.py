"""One HTTP/1.1 connection to an explainer: a request there, its whole answer back, then perhaps the next one.

On asyncio's protocols, answers read by httptools, as uvicorn reads requests: what an explanation costs the event loop is taken from
predictions, and a general client (httpx) takes several times as long as all else that the server does for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import httptools

Part = bytes | memoryview
_PIECE = 2**18
"""Bytes that are written without a break."""
_INTERIM = 200
"""Statuses below it announce an answer."""


class Broken(Exception):
    """No whole answer came: nobody listens, the connection was lost, what came isn't HTTP."""


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """A whole answer, whatever its status; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes | bytearray


class Connection(asyncio.Protocol):
    """Takes one request at a time. `since`: when it was used last, for whoever keeps it."""

    def __init__(self) -> None:
        self.since = 0.0
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._content = bytearray()
        self._begun = False
        """Whether the head of an answer was read, and not yet all of it."""
        self._keeps = True
        """Whether the other end takes another request, by what it answered last."""
        self._waiting: asyncio.Future[Answered] | None = None
        self._room = asyncio.Event()
        """Unset while what was written waits to be sent."""
        self._room.set()

    async def ask(self, parts: Sequence[Part]) -> Answered:
        """The answer to a request of these bytes. Raises Broken. Once that or a cancellation has ended it, nothing more can be asked."""
        transport = self._transport
        if transport is None:
            raise Broken("the connection was closed before it was used")
        answer: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._waiting = answer
        for piece in _pieces(parts):
            if answer.done():  # whoever refuses a request needn't read all of it
                break
            transport.write(piece)
            if not self._room.is_set():
                await self._room.wait()
        return await answer

    @property
    def reusable(self) -> bool:
        """Whether another request may follow."""
        transport = self._transport
        if transport is None or transport.is_closing() or transport.get_write_buffer_size():
            return False
        return self._waiting is None and not self._begun and self._keeps

    def close(self) -> None:
        """At once, whatever waits to be sent: so the other end stops working."""
        if self._transport is not None:
            self._transport.abort()

    # -------------------------------------------------------------------------------------------------- the event loop's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # asyncio's own annotation is wider than what it gives

    def data_received(self, data: bytes) -> None:
        if self._waiting is None:  # more than was asked for
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._end(Broken(f"what came is no HTTP answer: {error!r}"[:200]))
            self.close()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        unsized = self._begun and not {"content-length", "transfer-encoding"} & self._headers.keys()
        if unsized and exc is None:
            self._end(self._answered())  # its end is the connection's
        else:
            self._end(Broken("closed before the answer was whole" if exc is None else repr(exc)))

    # ------------------------------------------------------------------------------------------------------- httptools'

    def on_message_begin(self) -> None:
        if self._waiting is None:
            self.close()
        self._headers, self._content = {}, bytearray()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._begun = True

    def on_body(self, body: bytes) -> None:
        self._content += body  # grows in place: no second copy at the end

    def on_message_complete(self) -> None:
        self._begun = False
        if self._parser.get_status_code() >= _INTERIM:
            self._keeps = self._parser.should_keep_alive()
            self._end(self._answered())

    def _answered(self) -> Answered:
        return Answered(self._parser.get_status_code(), self._headers, self._content)

    def _end(self, outcome: Answered | Broken) -> None:
        waiting, self._waiting = self._waiting, None
        self._room.set()
        if waiting is None or waiting.done():
            return
        if isinstance(outcome, Broken):
            waiting.set_exception(outcome)
        else:
            waiting.set_result(outcome)


def _pieces(parts: Sequence[Part]) -> Iterator[Part]:
    """What is short as one, what is long in views: a copy of it would take as long as a prediction."""
    if sum(map(len, parts)) <= _PIECE:
        yield b"".join(parts)
        return
    for part in parts:
        view = memoryview(part)
        yield from (view[start : start + _PIECE] for start in range(0, len(view), _PIECE))

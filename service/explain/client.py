"""Requests to one server, over as many connections as there are requests at once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from service.explain.address import Address
from service.explain.connection import Answered, Broken, Connection, Part

_NONE: Mapping[str, str] = MappingProxyType({})
_BREAK = re.compile("[\r\n\0]")


class Unconnected(Broken):
    """Nobody had taken the connection in time."""


class Client:
    """`headers` go with every request. `connect`: seconds to be connected. `keep`: seconds that a connection is kept for the next
    request; 0: each request has its own."""

    def __init__(self, address: Address, headers: Mapping[str, str] = _NONE, *, connect: float = 5.0, keep: float = 0.0) -> None:
        self._address = address
        self._headers = {"host": address.authority, "user-agent": "whyserve", "accept": "*/*", **headers}
        self._connect = connect
        self._keep = keep
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._closed = False

    async def request(self, verb: str, path: str, headers: Mapping[str, str] = _NONE, body: Sequence[Part] = ()) -> Answered:
        """The answer. Raises Broken. Cancelling this closes the connection, which is how the other end hears of it."""
        head = self._head(verb, path, headers, sum(map(len, body)))
        connection = self._kept() or await self._connected()
        self._busy.add(connection)
        try:
            answer = await connection.ask((head, *body))
        except BaseException:
            connection.close()
            raise
        finally:
            self._busy.discard(connection)
        if self._keep and not self._closed and connection.reusable:
            connection.since = asyncio.get_running_loop().time()
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def close(self) -> None:
        """What is under way is broken, and there is no more."""
        self._closed = True
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._idle.clear()

    def _head(self, verb: str, path: str, headers: Mapping[str, str], length: int) -> bytes:
        sized = {} if verb == "GET" else {"content-length": str(length)}
        fields = [f"{name}: {value}" for name, value in {**self._headers, **headers, **sized}.items()]
        lines = [f"{verb} {self._address.base}{path} HTTP/1.1", *fields]
        if _BREAK.search("".join(lines)):
            raise ValueError("the head of a request holds a line break")
        return "\r\n".join((*lines, "", "")).encode("latin-1")

    def _kept(self) -> Connection | None:
        """The connection that was used last, where that isn't too long ago: the other end may be about to close it."""
        oldest = asyncio.get_running_loop().time() - self._keep
        while self._idle:
            connection = self._idle.pop()
            if connection.since > oldest and connection.reusable:
                return connection
            connection.close()
        return None

    async def _connected(self) -> Connection:
        if self._closed:
            raise Broken("the client was closed")
        try:
            async with asyncio.timeout(self._connect):
                return await self._address.connect(Connection)
        except TimeoutError:
            raise Unconnected(f"no connection within {self._connect:g} s") from None
        except OSError as error:
            raise Broken(repr(error)) from error

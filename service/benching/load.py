"""A load generator on bare sockets: closed loop (so many requests under way) and open loop (requests arrive by chance)."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from time import perf_counter
from typing import cast

import uvloop

from service.benching.alarm import alarm

LOST, UNANSWERED = "connection lost", "unanswered"
_PATIENCE = 65.0
"""Seconds that the open loop waits for its last answers: longer than a server's own timeout."""


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of the generator saw; latencies in seconds, of the requests answered with 200 only."""

    requests: int
    """Answered with 200."""
    seconds: float
    latencies: list[float]
    failures: Mapping[str, int] = field(default_factory=dict)
    """How many answers by status other than 200, connections lost, and requests never answered."""
    first_failure: str = ""
    """The beginning of the first such answer."""

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    def percentile(self, percent: int) -> float:
        return quantiles(self.latencies, n=100, method="inclusive")[percent - 1] if len(self.latencies) > 1 else sum(self.latencies)


def http_request(path: str, body: bytes, content_type: str, headers: Mapping[str, str] | None = None, host: str = "127.0.0.1") -> bytes:
    """The bytes of a POST."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"host: {host}",
        f"content-type: {content_type}",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def run_load(port: int, request: bytes, concurrency: int, seconds: float) -> Load:
    """`closed_loop` of one request to a local server; raises RuntimeError on any error status."""
    load = closed_loop(Address("127.0.0.1", port), [request], concurrency, seconds)
    if load.failures:
        raise RuntimeError(f"{dict(load.failures)}, the first with: {load.first_failure!r}")
    return load


def closed_loop(address: Address, requests: Sequence[bytes], concurrency: int, seconds: float) -> Load:
    """Sends `requests` in turn over `concurrency` connections, each waiting for its answer before the next; after a refusal as long as
    its Retry-After says. Raises OSError where nobody listens."""
    return uvloop.run(_closed(address, requests, concurrency, seconds))


def open_loop(address: Address, requests: Sequence[bytes], rate: float, seconds: float, connections: int = 256, seed: int = 0) -> Load:
    """Sends `requests` in turn at the times of a Poisson process of `rate` a second, whatever was answered so far.

    A latency counts from the moment at which the request was due, so one that waits because the server is slow (or because all
    `connections` are taken) counts that wait: no coordinated omission. Raises OSError where nobody listens.
    """
    return uvloop.run(_open(address, requests, rate, seconds, connections, seed))


async def _closed(address: Address, requests: Sequence[bytes], concurrency: int, seconds: float) -> Load:
    loop = asyncio.get_running_loop()
    seen, turn = _Seen(), itertools.cycle(requests)

    def again(connection: _Connection, retry_after: float) -> None:
        if retry_after:
            loop.call_later(retry_after, lambda: connection.send(next(turn), perf_counter()))
        else:
            connection.send(next(turn), perf_counter())

    connections = [await _connect(address, seen, again) for _ in range(concurrency)]
    started = perf_counter()
    for connection in connections:
        connection.send(next(turn), perf_counter())
    await asyncio.sleep(seconds)
    elapsed = perf_counter() - started
    for connection in connections:
        connection.close()
    return seen.load(elapsed)


async def _open(address: Address, requests: Sequence[bytes], rate: float, seconds: float, connections: int, seed: int) -> Load:
    seen, turn, chance = _Seen(), itertools.cycle(requests), random.Random(seed)  # noqa: S311  # arrivals, not secrets
    waiting: deque[float] = deque()
    idle: list[_Connection] = []

    def freed(connection: _Connection, _: float) -> None:
        if waiting:
            connection.send(next(turn), waiting.popleft())
        else:
            idle.append(connection)

    made: set[_Connection] = set()
    started = due = perf_counter()
    with alarm() as clock:
        while (due := due + chance.expovariate(rate)) < started + seconds:
            if (pause := due - perf_counter()) > 0:
                await clock.sleep(pause)
            while idle and idle[-1].closed:
                made.discard(idle.pop())
            if not idle and len(made) == connections:
                made = {connection for connection in made if not connection.closed}
            if not idle and len(made) < connections:
                idle.append(await _connect(address, seen, freed))
                made.add(idle[-1])
            waiting.append(due)
            if idle:
                idle.pop().send(next(turn), waiting.popleft())
    # Those still under way at the end are the slow ones: leaving them out would flatter the percentiles.
    end = perf_counter() + _PATIENCE
    while any(connection.busy for connection in made) and perf_counter() < end:  # noqa: ASYNC110  # a lost connection ends it too
        await asyncio.sleep(0.01)
    elapsed = perf_counter() - started
    for _ in range(len(waiting) + sum(connection.busy for connection in made)):
        seen.failed(UNANSWERED)
    for connection in made:
        connection.close()
    return seen.load(elapsed)


class _Seen:
    """Collects what all connections of one run are answered."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.failures: Counter[str] = Counter()
        self.first_failure = ""

    def failed(self, kind: str, words: bytes = b"") -> None:
        self.first_failure = self.first_failure or words[:300].decode("utf-8", "replace") or kind
        self.failures[kind] += 1

    def load(self, seconds: float) -> Load:
        return Load(len(self.latencies), seconds, self.latencies, dict(self.failures), self.first_failure)


Answered = Callable[["_Connection", float], None]
"""Called after each answer with the connection, free again, and the seconds that the server asked to wait (0: none)."""


async def _connect(address: Address, seen: _Seen, answered: Answered) -> _Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: _Connection(seen, answered), address.host, address.port, ssl=True if address.tls else None
    )
    return connection


class _Connection(asyncio.Protocol):
    """One keep-alive HTTP/1.1 connection with one request under way at most."""

    def __init__(self, seen: _Seen, answered: Answered) -> None:
        self._seen, self._answered = seen, answered
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._total = 0
        self._since = 0.0
        self.busy = self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has its methods, not its class

    def send(self, request: bytes, since: float) -> None:
        """Sends; the latency counts from the clock `since`."""
        if self.closed:
            return
        assert self._transport is not None
        self._since, self.busy = since, True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._total:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _header(self._received[:end], b"content-length")
            if length is None:  # the services measured here say how long their answers are
                self._fail("answer without Content-Length")
                return
            self._total = end + 4 + int(length)
        if len(self._received) < self._total or self.closed:
            return
        self._complete(bytes(self._received[: self._total]))

    def _complete(self, answer: bytes) -> None:
        self._received.clear()
        self._total, self.busy = 0, False
        head = answer[: answer.find(b"\r\n\r\n")]
        status = head[9:12].decode("ascii", "replace")
        pause = 0.0
        if status == "200":
            self._seen.latencies.append(perf_counter() - self._since)
        else:
            self._seen.failed(status, answer[len(head) + 4 :])
            asked = _header(head, b"retry-after")
            pause = float(asked) if asked is not None and asked.isdigit() else 0.0
        self._answered(self, pause)

    def _fail(self, kind: str) -> None:
        self._seen.failed(kind, bytes(self._received))
        self.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closed:
            self._seen.failed(LOST, str(error or "").encode())
        self.closed, self.busy = True, False

    def close(self) -> None:
        self.closed, self.busy = True, False
        if self._transport is not None:
            self._transport.close()


def _header(head: bytes | bytearray, name: bytes) -> bytes | None:
    _, found, rest = head.lower().partition(b"\r\n" + name + b":")
    return bytes(rest.partition(b"\r\n")[0].strip()) if found else None

"""A load generator: so many connections, each with one request under way, counted for so many seconds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from statistics import quantiles
from time import perf_counter
from typing import cast

import uvloop


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of the generator saw; latencies in seconds."""

    requests: int
    seconds: float
    latencies: list[float]

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    def percentile(self, percent: int) -> float:
        return quantiles(self.latencies, n=100)[percent - 1]


def http_request(path: str, body: bytes, content_type: str, headers: dict[str, str] | None = None) -> bytes:
    """The bytes of a POST."""
    lines = [
        f"POST {path} HTTP/1.1",
        "host: 127.0.0.1",
        f"content-type: {content_type}",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def run_load(port: int, request: bytes, concurrency: int, seconds: float) -> Load:
    """Sends `request` over `concurrency` connections, each waiting for its answer before the next; raises on any error status."""
    return uvloop.run(_run(port, request, concurrency, seconds))


async def _run(port: int, request: bytes, concurrency: int, seconds: float) -> Load:
    loop = asyncio.get_running_loop()
    connections = []
    for _ in range(concurrency):
        _, connection = await loop.create_connection(lambda: _Connection(request), "127.0.0.1", port)
        connections.append(connection)
    started = perf_counter()
    for connection in connections:
        connection.send()
    await asyncio.sleep(seconds)
    for connection in connections:
        connection.stop()
    elapsed = perf_counter() - started
    if failed := [connection.failure for connection in connections if connection.failure]:
        raise RuntimeError(f"{len(failed)} connections failed, the first with: {failed[0]!r}")
    latencies = [latency for connection in connections for latency in connection.latencies]
    return Load(len(latencies), elapsed, latencies)


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes) -> None:
        self._request = request
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._sent = 0.0
        self._stopped = False
        self.latencies: list[float] = []
        self.failure = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has its methods, not its class

    def send(self) -> None:
        assert self._transport is not None
        self._sent = perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self.failure = self._received[:300]
            self.stop()
            return
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        if len(body) < length or self._stopped:
            return
        self.latencies.append(perf_counter() - self._sent)
        self._received = b""
        self.send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._stopped:
            self.failure = self.failure or f"connection lost: {error}".encode()

    def stop(self) -> None:
        self._stopped = True
        if self._transport is not None:
            self._transport.close()

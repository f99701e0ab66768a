"""Where a server listens, a Unix socket or a host and port, and how a connection there is made."""

from __future__ import annotations

import asyncio
import ssl
from asyncio.staggered import staggered_race
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from socket import SOCK_STREAM
from typing import TypeVar
from urllib.parse import urlsplit

Protocol = TypeVar("Protocol", bound=asyncio.Protocol)
_NEXT = 0.25
"""Seconds after which a name's next address is tried beside those before it (RFC 8305): a machine that is gone says nothing."""


@dataclass(frozen=True, slots=True)
class SocketFile:
    """A Unix socket."""

    path: Path

    @property
    def base(self) -> str:
        return ""

    @property
    def authority(self) -> str:
        return "explainer"

    async def connect(self, make: Callable[[], Protocol]) -> Protocol:
        """A connection. Raises OSError."""
        _, made = await asyncio.get_running_loop().create_unix_connection(make, str(self.path))
        return made


@dataclass(frozen=True, slots=True)
class HostPort:
    """A name or number and a port, with TLS where there is a context. `base` stands before the path of every request."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    base: str = ""

    @classmethod
    def of_url(cls, url: str) -> HostPort:
        """Of http://HOST:PORT/BASE, or https, whose certificates are checked (SSL_CERT_FILE names others than the system's)."""
        parts = urlsplit(url)
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        return cls(parts.hostname or "", parts.port or (443 if tls else 80), tls, parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        """As the Host header has it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def connect(self, make: Callable[[], Protocol]) -> Protocol:
        """The first connection that one of the name's addresses takes. Raises OSError."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self.host, self.port, type=SOCK_STREAM)
        name = self.host if self.tls else None

        async def one(host: str) -> Protocol:
            _, made = await loop.create_connection(make, host, self.port, ssl=self.tls, server_hostname=name)
            return made

        addresses = dict.fromkeys(str(address[0]) for *_, address in found)
        connected: Protocol | None
        connected, _, errors = await staggered_race([partial(one, address) for address in addresses], _NEXT)
        if connected is None:
            raise next((error for error in errors if error is not None), OSError(f"{self.host} has no address"))
        return connected


Address = SocketFile | HostPort

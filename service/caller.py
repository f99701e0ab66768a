"""Who asks: what queues and shares need to know of a request's sender."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256


@dataclass(frozen=True, slots=True)
class Caller:
    """`key`: a fingerprint of the API key, empty where none is needed. `interactive`: somebody waits at the other end of the line.
    `request`: the id that their request has in every log, which they may choose. `errand`: what the messages of one request have in
    common, made here, so that nobody passes off many requests as one."""

    key: str = ""
    interactive: bool = True
    request: str = ""
    errand: str = ""

    @classmethod
    def by_key(cls, key: bytes) -> Caller:
        """The bearer of a key, by its SHA-256: the key itself stays at the edge."""
        return cls(sha256(key).hexdigest())


ANYONE = Caller()

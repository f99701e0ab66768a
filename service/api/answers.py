"""Answers: JSON, pictures and pages to bytes, errors by one table, and which form an Accept header asks for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.types import Send

from service.errors import NotAcceptable, WhyserveError

log = logging.getLogger("whyserve")

JSON = "application/json"
PNG = "image/png"
HTML = "text/html"

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response: status, media type, body, further headers."""

    body: bytes
    status: int = 200
    media_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)

    async def send(self, send: Send) -> None:
        headers = [
            (b"content-type", self.media_type.encode("latin-1")),
            (b"content-length", str(len(self.body)).encode("latin-1")),
            *((name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers.items()),
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def json_answer(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return Answer(orjson.dumps(document, option=_OPTIONS), status, JSON, headers or {})


def page_answer(page: str) -> Answer:
    """A self-contained page: no script, nothing loaded from anywhere."""
    return Answer(page.encode("utf-8"), 200, f"{HTML}; charset=utf-8", _PAGE_HEADERS)


def picture_answer(png: bytes) -> Answer:
    return Answer(png, 200, PNG)


def error_answer(error: Exception) -> Answer:
    """The answer to an error: its own status and words, or 500 without any internals (they go to the log)."""
    if not isinstance(error, WhyserveError):
        log.error("unexpected error", exc_info=error)
        return json_answer({"error": "the server failed on this request; its log says why", "code": "internal"}, 500)
    if error.status >= 500:
        log.warning("%s: %s", error.code, error)
    headers = {"retry-after": str(error.retry_after)} if error.retry_after is not None else {}
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return json_answer({"error": error.message, "code": error.code}, error.status, headers)


def negotiate(accept: str, producible: Sequence[str]) -> str:
    """The media type to answer with (RFC 9110, 12.5.1): the best quality, then the order of `producible`.

    Raises NotAcceptable, which lists what can be produced.
    """
    if not accept or accept == "*/*":
        return producible[0]
    best, best_quality = "", 0.0
    for candidate in producible:
        quality = _quality(accept, candidate)
        if quality > best_quality:
            best, best_quality = candidate, quality
    if not best:
        raise NotAcceptable(f"Accept {accept!r}; this answer can be: {', '.join(producible)}")
    return best


def _quality(accept: str, candidate: str) -> float:
    """The quality that the most specific range matching `candidate` gives it; 0 where none matches."""
    found = (-1, 0.0)
    for part in accept.split(","):
        media_range, *attributes = (piece.strip().lower() for piece in part.split(";"))
        if media_range == candidate:
            specificity = 2
        elif media_range == candidate.partition("/")[0] + "/*":
            specificity = 1
        elif media_range == "*/*":
            specificity = 0
        else:
            continue
        quality = next((a[2:] for a in attributes if a.startswith("q=")), "1")
        try:
            found = max(found, (specificity, float(quality)))
        except ValueError:
            continue
    return found[1]

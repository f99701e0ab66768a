"""Answers: JSON, pictures and pages to bytes, errors by one table, and which form an Accept header asks for."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import orjson
from starlette.types import Send

from service.errors import NotAcceptable, WhyserveError

log = logging.getLogger("whyserve")

JSON = "application/json"
PNG = "image/png"
HTML = "text/html"

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY
_PIECE = 8_192
"""Numbers that are written without a break, about a fifth of a millisecond's worth."""
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
}


class Answer(NamedTuple):
    """A whole response: status, media type, body, further headers."""

    body: bytes | bytearray
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = MappingProxyType({})

    async def send(self, send: Send) -> None:
        headers = [(b"content-type", self.media_type.encode("latin-1")), (b"content-length", b"%d" % len(self.body))]
        headers += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def json_answer(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return Answer(orjson.dumps(document, option=_OPTIONS), status, JSON, headers or {})


async def long_json_answer(document: dict[str, Any]) -> Answer:
    """The same bytes, large arrays written in pieces between which others have their turn.

    On the event loop and not on a thread: orjson holds the interpreter's lock for as long as it writes.
    """
    return json_answer(await _in_pieces(document))


async def _in_pieces(node: Any) -> Any:
    """The value with its large arrays as JSON that is written already."""
    if isinstance(node, dict):
        return {name: await _in_pieces(value) for name, value in node.items()}
    if isinstance(node, list) and node and isinstance(node[0], dict):
        return [await _in_pieces(value) for value in node]
    if isinstance(node, np.ndarray) and node.size > _PIECE:
        return orjson.Fragment(await _written(node))
    return node


async def _written(array: np.ndarray[Any, Any]) -> bytes:
    row = math.prod(array.shape[1:])
    if row > _PIECE:
        return b"[" + b",".join([await _written(part) for part in array]) + b"]"
    step, pieces = _PIECE // row, []
    for start in range(0, len(array), step):
        pieces.append(orjson.dumps(array[start : start + step], option=_OPTIONS)[1:-1])
        await asyncio.sleep(0)
    return b"[" + b",".join(pieces) + b"]"


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

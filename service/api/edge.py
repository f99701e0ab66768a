"""What every request passes before any route: its id, the Host check, keys, and the draining server's farewell.

One pure ASGI middleware: each layer around the predict path costs a coroutine a message.
"""

from __future__ import annotations

import hmac
import random
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from prometheus_client import Counter
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.answers import error_answer
from service.api.bodies import Fields
from service.caller import ANYONE, Caller
from service.errors import BadRequest, Forbidden, Unauthorized, WhyserveError

_OPEN = ("/v2/health/", "/metrics", "/docs", "/openapi.json", "/ping")
_ADMIN = "/v2/repository/models/"
_REFUSALS = {401: "no_key", 403: "forbidden", 413: "too_large", 429: "share_used_up", 503: "unavailable"}
"""Statuses that refuse a request before any work, as the metrics name them where nobody below said a `refused` in the state.
What is `postponed` there comes back by itself."""
_VERBS = (":predict", ":explain", ":generate", "/infer", "/explain")
_TORCHSERVE = ("/predictions/", "/explanations/")
_REMEMBERED = 1024
"""Paths whose verb isn't looked for again: a search among all routes takes as long as all other work here."""
_SHORT_PATH = 256
"""Characters of a path that is remembered: what clients make up holds no memory worth speaking of."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(slots=True)
class Draining:
    """Set once the server was told to stop: readiness and keep-alive look at it."""

    started: bool = False


@dataclass(frozen=True, slots=True)
class Keys:
    """Who may do what. No `users`: everyone may predict and explain. No `administrators`: nobody may change models."""

    users: frozenset[str] = field(default_factory=frozenset)
    administrators: frozenset[str] = field(default_factory=frozenset)

    def check(self, path: str, headers: Fields) -> Caller:
        """Who asks. Raises Unauthorized without a key where one is needed, Forbidden with one that doesn't suffice."""
        admin = path.startswith(_ADMIN)
        if admin and not self.administrators:
            raise Forbidden("changing the repository is turned off; set WHYSERVE_ADMIN_KEYS")
        if not admin and (not self.users or path.startswith(_OPEN) or path == "/"):
            return ANYONE
        key = headers.get(b"x-api-key") or headers.get(b"authorization", b"").removeprefix(b"Bearer ").strip()
        if not key:
            raise Unauthorized("a key is needed: Authorization: Bearer KEY, or X-API-Key: KEY")
        if not _among(key, self.administrators if admin else self.users | self.administrators):
            if admin and _among(key, self.users):
                raise Forbidden("this key may predict and explain, not change the repository")
            raise Forbidden("this key isn't known here")
        return Caller.by_key(key)


def _among(key: bytes, keys: frozenset[str]) -> bool:
    # Every key is compared, each in constant time: how long it takes tells nothing about them.
    return sum(hmac.compare_digest(key, known.encode()) for known in keys) > 0


def allowed_hosts(listening: str) -> frozenset[str] | None:
    """Host names to accept where the server listens on loopback (against DNS rebinding); None: any."""
    bracketed = f"[{listening}]" if ":" in listening else listening
    return _LOOPBACK if bracketed in _LOOPBACK else None


@dataclass(frozen=True, slots=True)
class _Found:
    """A verb's app and what its route reads from the path, as Starlette's router puts it into the scope."""

    app: ASGIApp
    named: Mapping[str, Any]


class Edge:
    """The middleware. `scope["state"]` holds, for whoever answers below, the `request_id`, the `caller` and the header `fields`."""

    def __init__(
        self, app: ASGIApp, *, verbs: Sequence[Route], keys: Keys, hosts: frozenset[str] | None, draining: Draining, rejected: Counter
    ) -> None:
        self._app = app
        self._verbs = verbs
        self._keys = keys if keys.users or keys.administrators else None
        self._closed_admin = Keys()
        self._hosts = hosts
        self._draining = draining
        self._rejected = rejected
        self._remembered = lru_cache(_REMEMBERED)(self._find)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: Fields = dict(scope["headers"])
        request_id = _request_id(headers)
        state = scope.setdefault("state", {})
        state["request_id"], state["fields"] = request_id, headers
        answering = False

        def identified(message: Message) -> Awaitable[None]:  # no coroutine of its own: it has nothing to wait for
            nonlocal answering
            if message["type"] == "http.response.start":
                answering = True
                if message["status"] in _REFUSALS and not scope["path"].startswith(_OPEN) and not state.get("postponed"):
                    self._rejected.labels(state.get("refused") or _REFUSALS[message["status"]]).inc()
                extra = [(b"x-request-id", request_id.encode("latin-1"))]
                if self._draining.started:
                    extra.append((b"connection", b"close"))
                message["headers"] = [*message["headers"], *extra]
            return send(message)

        try:
            state["caller"] = self._check(scope["path"], headers)
        except WhyserveError as error:
            await error_answer(error).send(identified)
            return
        try:
            await self._endpoint(scope)(scope, receive, identified)
        except Exception as error:
            if answering:  # too late for another answer: the server closes the connection
                raise
            await error_answer(error).send(identified)

    def _endpoint(self, scope: Scope) -> ASGIApp:
        """The verb that the path names, else the app.

        A verb makes an answer of every error itself, so it needs none of what stands between here and the app's router
        (error handling, exit stacks, routing: about 9 us of the 170 that a small network's prediction takes).
        """
        path: str = scope["path"]
        if path.endswith(_VERBS) or path.startswith(_TORCHSERVE):
            find = self._remembered if len(path) <= _SHORT_PATH else self._find
            if (found := find(scope["method"], path, scope.get("root_path", ""))) is not None:
                scope.update(found.named)
                return found.app
        return self._app

    def _find(self, method: str, path: str, root_path: str) -> _Found | None:
        scope = {"type": "http", "method": method, "path": path, "root_path": root_path}
        for route in self._verbs:
            match, named = route.matches(scope)
            if match is Match.FULL:
                return _Found(route.app, named)
        return None

    def _check(self, path: str, headers: Fields) -> Caller:
        if self._hosts is not None:
            host = headers.get(b"host", b"").decode("latin-1").lower()
            name = host if host.endswith("]") else host.rpartition(":")[0] or host
            if name not in self._hosts:
                raise BadRequest(
                    f"host {host[:100]!r} isn't served here; this server listens on loopback only: {', '.join(sorted(self._hosts))}"
                )
        if self._keys is not None or path.startswith(_ADMIN):
            return (self._keys or self._closed_admin).check(path, headers)
        return ANYONE


def _request_id(headers: Fields) -> str:
    """The client's own id where it is short and printable, else a new one."""
    if sent := headers.get(b"x-request-id"):
        text = sent.decode("latin-1")
        if len(text) <= 128 and text.isascii() and text.isprintable():
            return text
    return f"{random.getrandbits(96):024x}"

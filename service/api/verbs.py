"""One inference verb as a plain ASGI app: body in, answer out, counted; what FastAPI adds per request it doesn't need.

Measured on an idle core: a FastAPI route reading 400 bytes answers 8,700 requests/s at concurrency 8, a plain route
29,400. So the verbs are plain routes inside the FastAPI app, and their OpenAPI entries are written in `openapi.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from secrets import token_hex
from time import perf_counter
from typing import Any, Literal, NamedTuple, TypeVar
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from service.api.answers import Answer, error_answer
from service.api.bodies import BodyLimits, Fields, HungUp, Parsed, parse_body, read_body
from service.caller import Caller
from service.engine.precedence import Precedence
from service.errors import WhyserveError
from service.repository.loaded import LoadedModel
from service.repository.registry import Registry

Operation = Literal["predict", "explain", "generate", "activations", "explain-layer", "visualise"]
Result = TypeVar("Result")
_ERRAND_BYTES = 8
_PREDICTING: frozenset[Operation] = frozenset({"predict", "generate"})
"""Run the model and no more; the others wait for their turn."""


class Call(NamedTuple):
    """A request that was read: the model it names and what it sends.

    A named tuple, as the other values that each prediction makes: a frozen dataclass takes six times as long to make.
    """

    model: LoadedModel
    headers: Fields
    body: bytes
    query: dict[str, str]
    id: str
    receive: Receive
    sender: Caller

    @property
    def caller(self) -> Caller:
        """The sender on a new errand, each time that somebody asks: predictions don't, an explanation does once."""
        return replace(self.sender, request=self.id, errand=token_hex(_ERRAND_BYTES))

    @property
    def accept(self) -> str:
        return self.headers.get(b"accept", b"").decode("latin-1")

    def parse(self, limits: BodyLimits, *, may_be_none: bool = False) -> Coroutine[Any, Any, Parsed]:
        """Instances and parameters. Raises what `parse_body` raises."""
        content_type = self.headers.get(b"content-type", b"").decode("latin-1")
        return parse_body(self.body, content_type, self.query, self.model.manifest.inputs, limits, may_be_none=may_be_none)


Handle = Callable[[Call], Awaitable[Answer]]


class Verb:
    """Runs `handle` for one operation, and turns every outcome into an answer and a count."""

    def __init__(self, registry: Registry, precedence: Precedence, operation: Operation, limits: BodyLimits, handle: Handle) -> None:
        self._registry = registry
        self._precedence = precedence
        self._predicts = operation in _PREDICTING
        self._operation = operation
        self._limits = limits
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        path = scope["path_params"]
        try:
            model = self._registry.model(path["name"], path.get("version"))
        except WhyserveError as error:
            await error_answer(error).send(send)
            return
        outcome = "ok"
        model.inflight[self._operation] += 1
        try:
            state = scope["state"]
            headers: Fields = state["fields"]
            query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)) if scope["query_string"] else {}
            body = await read_body(headers, receive, self._limits.max_bytes)
            if self._predicts:
                self._precedence.prediction()
            else:
                await self._precedence.turn()
            answer = await self._handle(Call(model, headers, body, query, state["request_id"], receive, state["caller"]))
        except HungUp:
            outcome = "cancelled"
            return
        except Exception as error:
            scope["state"]["refused"] = getattr(error, "reason", None)
            answer = error_answer(error)
            outcome = "client_error" if answer.status < 500 else "server_error"
        finally:
            model.inflight[self._operation] -= 1
            if self._predicts:
                self._precedence.prediction()
            model.series.requests[self._operation, outcome].inc()
        await answer.send(send)
        model.series.duration[self._operation].observe(perf_counter() - started)


async def unless_hung_up(work: Coroutine[Any, Any, Result], receive: Receive) -> Result:
    """The result of `work`, which is cancelled as soon as the client goes away: nobody computes for no one.

    Raises HungUp then.
    """
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_hang_up(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HungUp
        return working.result()
    finally:
        working.cancel()
        watching.cancel()


async def _hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

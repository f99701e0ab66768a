"""The routes of a server that explains for predictors: a request goes on to an explainer process, its answer goes back.

Tensors stay the bytes that came, in both directions; of a request only the JSON header is read.
"""

from __future__ import annotations

from dataclasses import replace
from time import monotonic, perf_counter
from typing import Any, get_args

from fastapi import APIRouter
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

import service
from service.api.answers import Answer, error_answer
from service.api.bodies import Fields, HungUp, read_body
from service.api.v2 import header_length, indexed, readiness
from service.api.verbs import unless_hung_up
from service.errors import Overloaded, ShareUsedUp, UnknownChoice
from service.explain.explainers import Explainers
from service.explain.layers.studied import Operation
from service.explain.message import LENGTH_HEADER, REFUSED_HEADER, ROLE_HEADER, Kind, Message, Reply, caller_from, message_from
from service.repository.inventory import Inventory
from service.telemetry import Metrics

_MODEL = "/v2/models/{name}"
_VERSION = _MODEL + "/versions/{version}"


class Relay:
    """One kind of message, as a plain ASGI app. `longest` is the most seconds that a request may take."""

    def __init__(
        self, kind: Kind, inventory: Inventory, explainers: Explainers, metrics: Metrics, *, max_bytes: int, longest: float
    ) -> None:
        self._kind = kind
        self._inventory = inventory
        self._explainers = explainers
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._longest = longest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        path = scope["path_params"]
        try:
            location = (await self._inventory.sound(path["name"], path.get("version"))).location
        except Exception as error:
            await _signed(error_answer(error)).send(send)
            return
        model = (location.name, str(location.version))
        outcome = "ok"
        try:
            message = await self._message(scope, receive, location.name, location.version)
            reply = await self._carried(message, scope, receive)
            length = {} if reply.header_length is None else {LENGTH_HEADER.lower(): str(reply.header_length)}
            answer = Answer(reply.content, 200, reply.media_type, length)
        except HungUp:
            outcome = "cancelled"
            return
        except Exception as error:
            answer = _refusal(error)
            outcome = "client_error" if answer.status < 500 else "server_error"
        finally:
            self._metrics.requests.labels(*model, self._kind, outcome).inc()
        await _signed(answer).send(send)
        self._metrics.duration.labels(*model, self._kind).observe(perf_counter() - started)

    async def _carried(self, message: Message, scope: Scope, receive: Receive) -> Reply:
        """The reply. A refusal for want of room counts as one where somebody waits; others come back from their predictor."""
        try:
            return await unless_hung_up(self._explainers.carry(message), receive)
        except (Overloaded, ShareUsedUp) as full:
            scope["state"]["refused"] = getattr(full, "reason", None)
            scope["state"]["postponed"] = not message.caller.interactive
            raise

    async def _message(self, scope: Scope, receive: Receive, name: str, version: int) -> Message:
        """Raises TooLarge, BadRequest, BadParameter, UnknownChoice (operation), HungUp."""
        state = scope["state"]
        headers: Fields = state["fields"]
        body = await read_body(headers, receive, self._max_bytes)
        caller = caller_from(headers, replace(state["caller"], request=state["request_id"]))
        if self._kind == "status":
            return Message("status", name, version, monotonic() + self._longest, caller=caller)
        operation = scope["path_params"].get("operation", "")
        if self._kind == "study" and operation not in get_args(Operation):
            raise UnknownChoice("operation", operation[:40], get_args(Operation))
        return message_from(body, header_length(headers), self._kind, name, version, self._longest, operation, caller)


def relay_routes(inventory: Inventory, explainers: Explainers, metrics: Metrics, *, max_bytes: int, longest: float) -> list[Route]:
    """Plain routes, to stand first in the app's list."""

    def relay(kind: Kind) -> Relay:
        return Relay(kind, inventory, explainers, metrics, max_bytes=max_bytes, longest=longest)

    explain, study, status = relay("explain"), relay("study"), relay("status")
    return [
        Route(f"{_MODEL}/explain", explain, methods=["POST"], name="relay_explain"),
        Route(f"{_VERSION}/explain", explain, methods=["POST"], name="relay_explain"),
        Route(f"{_VERSION}/study/{{operation}}", study, methods=["POST"], name="relay_study"),
        Route(_MODEL, status, methods=["GET"], name="relay_status"),
        Route(_VERSION, status, methods=["GET"], name="relay_status"),
    ]


def inventory_routes(inventory: Inventory) -> APIRouter:
    """What of the protocol says what there is to explain."""
    router = APIRouter(tags=["open inference protocol"])

    @router.get("/v2", summary="Server metadata")
    async def server() -> dict[str, Any]:
        extensions = ["binary_tensor_data", "explain"]
        return {"name": "whyserve", "version": service.__version__, "role": "explainer", "extensions": extensions}

    @router.get("/v2/models", summary="Names of the models")
    async def models() -> dict[str, list[str]]:
        return {"models": inventory.registry.names()}

    @router.get(_MODEL + "/ready", summary="Whether the model's bundle is sound", responses={503: {}})
    @router.get(_VERSION + "/ready", summary="Whether the model's bundle is sound", responses={503: {}})
    async def ready(name: str, version: str | None = None) -> JSONResponse:
        return readiness(await inventory.entry(name, version))

    @router.post("/v2/repository/index", summary="Every version on disk, whether it is sound, and why not")
    async def index() -> list[dict[str, str]]:
        await inventory.take()
        return [indexed(entry) for entry in inventory.registry]

    return router


def _refusal(error: Exception) -> Answer:
    """The error's answer, and of what the line is full where it is."""
    answer = error_answer(error)
    return _with(answer, REFUSED_HEADER, error.reason) if isinstance(error, Overloaded) else answer


def _signed(answer: Answer) -> Answer:
    return _with(answer, ROLE_HEADER, "explainer")


def _with(answer: Answer, header: str, value: str) -> Answer:
    return answer._replace(headers={**answer.headers, header.lower(): value})

"""`Prefer: respond-async` (RFC 7240) on `:explain`, and `/v1/explanations/{id}`, where its answer is fetched or cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api import schemas
from service.api.answers import HTML, PNG, Answer, error_answer, json_answer, negotiate
from service.api.bodies import Parsed
from service.api.explained import Finished
from service.api.verbs import Call
from service.errors import Unavailable
from service.explain.render.answer import drawable
from service.explanations.asked import Asked
from service.explanations.postponed import Postponed
from service.explanations.store import Store, Stored
from service.serving import Serving

_PATH = "/v1/explanations/"
_POLL = "1"
"""Seconds between two looks, as Retry-After says."""
_DRAWN: dict[int | str, dict[str, Any]] = {
    200: {"content": {PNG: {"schema": {"type": "string", "format": "binary"}}, HTML: {}}},
    202: {"model": schemas.Pending, "description": "it waits or is being computed; Retry-After says when to look again"},
    404: {"model": schemas.Error, "description": "unknown, another key's, deleted, its time over, or on another replica"},
}


def prefers_later(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the preferences of a request (RFC 7240) have `respond-async` among them."""
    sent = headers.get(b"prefer")
    if sent is None:
        return False
    return any(part.partition(";")[0].strip().lower() == "respond-async" for part in sent.decode("latin-1").split(","))


class Later:
    """Asynchronous explanations over one Serving, kept on this replica only. What was accepted waits for room in the explainers' line
    as long as its time lasts."""

    def __init__(self, serving: Serving, store: Store[Finished], postponed: Postponed) -> None:
        self._serving = serving
        self._store = store
        self._postponed = postponed

    async def accept(self, call: Call, parsed: Parsed) -> Answer:
        """202 with the place where the answer will be. What can be seen to be wrong is refused here.

        Raises what `Serving.prepare` raises, NotAcceptable, TooLarge, ShareUsedUp, Unavailable.
        """
        negotiate(call.accept, drawable(call.model.manifest))
        caller = replace(call.caller, interactive=False)
        asked = await self._serving.prepare(call.model, parsed.instances, parsed.parameters, caller)
        self._store.require_room(caller.key, asked.size)

        deadline = asyncio.get_running_loop().time() + asked.timeout

        async def work(asked: Asked) -> Finished:
            explained = await self._serving.answer(asked, caller, partial(self._postponed.ask, caller.key, deadline))
            return Finished(asked.model.manifest, explained, signature(call))

        stored = self._store.add(caller.key, asked.size, work(asked))
        headers = {"location": _PATH + stored.id, "preference-applied": "respond-async", "retry-after": _POLL}
        return json_answer({"id": stored.id, "status": "pending"}, 202, headers)

    def router(self) -> APIRouter:
        router = APIRouter(tags=["asynchronous explanations"])

        @router.get(_PATH + "{identifier}", summary="An asynchronous explanation", response_model=schemas.Explanations, responses=_DRAWN)
        async def get(request: Request, identifier: str) -> Response:
            answer = await self._answer(self._store.get(request.state.caller.key, identifier), request.headers.get("accept", ""))
            return Response(answer.body, answer.status, answer.headers, answer.media_type)

        @router.delete(
            _PATH + "{identifier}",
            summary="Cancel or forget an asynchronous explanation",
            status_code=204,
            responses={404: _DRAWN[404]},
        )
        async def delete(request: Request, identifier: str) -> Response:
            self._store.remove(self._store.get(request.state.caller.key, identifier))
            return Response(status_code=204)

        return router

    async def _answer(self, stored: Stored[Finished], accept: str) -> Answer:
        """As the explanation itself, or its error, would have been answered."""
        if not stored.task.done():
            return json_answer({"id": stored.id, "status": "pending"}, 202, {"retry-after": _POLL})
        if stored.task.cancelled():
            raise Unavailable("the server is stopping")
        if (error := stored.task.exception()) is not None:
            return error_answer(error if isinstance(error, Exception) else RuntimeError(str(error)))
        return await stored.task.result().answer(accept)


def signature(call: Call) -> dict[str, Any]:
    """Who answered an explanation."""
    model = call.model
    return {"model_name": model.name, "model_version": str(model.version), "model_sha256": model.bundle.model_sha256, "id": call.id}

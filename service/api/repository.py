"""Loading and unloading models of the repository on disk (Triton's repository extension). No URL, no upload, no `file:`.

The middleware lets only administrators' keys through to these paths.
"""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request

from service.errors import BadParameter, NotFound, Unavailable
from service.lifecycle import Lifecycle


def repository_routes(lifecycle: Lifecycle) -> APIRouter:
    """`/v2/repository/models/{name}/load` and `/unload`."""
    router = APIRouter(tags=["repository"])

    @router.post("/v2/repository/models/{name}/load", summary="Load every version on disk, anew")
    async def load(name: str, request: Request) -> dict[str, Any]:
        await _no_parameters(request, allowed=())
        entries = await lifecycle.load_named(name)
        if not entries:
            raise NotFound(f"the repository has no model named {name!r}")
        if not any(entry.state == "READY" for entry in entries):
            raise Unavailable(f"model {name!r} was refused: {entries[-1].reason}")
        return {"name": name, "load": True}

    @router.post("/v2/repository/models/{name}/unload", summary="Take every version out of service")
    async def unload(name: str, request: Request) -> dict[str, Any]:
        await _no_parameters(request, allowed=("unload_dependents",))
        lifecycle.unload_named(name)
        return {"name": name, "unload": True}

    return router


async def _no_parameters(request: Request, allowed: tuple[str, ...]) -> None:
    """Refuses what Triton takes here and this server doesn't: a model's configuration or files in the request."""
    body = await request.body()
    if not body:
        return
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    sent = (document.get("parameters") or {}) if isinstance(document, dict) else None
    if not isinstance(sent, dict):
        raise BadParameter('expected an empty body or a JSON object {"parameters": {..}}')
    if unknown := sorted(set(sent) - set(allowed)):
        raise BadParameter(f"parameter {unknown[0]!r} isn't taken: models come from the repository on disk only")

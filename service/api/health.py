"""Liveness, readiness, model states and metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.api.edge import Draining
from service.repository.registry import Registry
from service.telemetry import Metrics


def health_routes(
    registry: Registry, metrics: Metrics, draining: Draining, *, strict: bool, lacks: Callable[[], str] = lambda: ""
) -> APIRouter:
    """`/v2/health/*`, `/ping` and `/metrics`. `lacks` says what beside its models the server isn't ready without; empty: nothing."""
    router = APIRouter(tags=["health"])

    def ready() -> bool:
        return not draining.started and registry.ready(strict) and not lacks()

    @router.get("/v2/health/live", summary="The process answers")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @router.get("/v2/health/ready", summary="Every bundle was warmed up or refused, and at least one serves", responses={503: {}})
    async def server_ready() -> JSONResponse:
        return JSONResponse({"ready": True}) if ready() else _not_ready(registry, draining, lacks())

    @router.get("/ping", summary="TorchServe's health check", responses={503: {}})
    async def ping() -> JSONResponse:
        return JSONResponse({"status": "Healthy"}) if ready() else JSONResponse({"status": "Unhealthy"}, 503, {"retry-after": "1"})

    @router.get("/metrics", summary="Prometheus text, OpenMetrics by Accept")
    async def page(request: Request) -> Response:
        body, content_type = metrics.exposition(request.headers.get("accept", ""))
        return Response(body, media_type=None, headers={"content-type": content_type})

    return router


def _not_ready(registry: Registry, draining: Draining, lacking: str) -> JSONResponse:
    refused = {f"{e.location.name}/{e.location.version}": e.reason for e in registry if e.state == "UNAVAILABLE"}
    why = (
        "the server is stopping"
        if draining.started
        else "models are loading"
        if not registry.settled
        else lacking
        if lacking
        else "no model serves, or one was refused"
    )
    body: dict[str, Any] = {"ready": False, "error": why, "code": "unavailable", "refused": refused}
    return JSONResponse(body, 503, {"retry-after": "1"})

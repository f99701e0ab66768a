"""Liveness, readiness, model states and metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.api.edge import Draining
from service.repository.registry import Registry
from service.telemetry import Metrics


def health_routes(registry: Registry, metrics: Metrics, draining: Draining, *, strict: bool) -> APIRouter:
    """`/v2/health/*`, `/ping` and `/metrics`."""
    router = APIRouter(tags=["health"])

    def ready() -> bool:
        return not draining.started and registry.ready(strict)

    @router.get("/v2/health/live", summary="The process answers")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @router.get("/v2/health/ready", summary="Every bundle was warmed up or refused, and at least one serves", responses={503: {}})
    async def server_ready() -> JSONResponse:
        return JSONResponse({"ready": True}) if ready() else _not_ready(registry, draining)

    @router.get("/ping", summary="TorchServe's health check", responses={503: {}})
    async def ping() -> JSONResponse:
        return JSONResponse({"status": "Healthy"}) if ready() else JSONResponse({"status": "Unhealthy"}, 503, {"retry-after": "1"})

    @router.get("/metrics", summary="Prometheus text, OpenMetrics by Accept")
    async def page(request: Request) -> Response:
        body, content_type = metrics.exposition(request.headers.get("accept", ""))
        return Response(body, media_type=None, headers={"content-type": content_type})

    return router


def _not_ready(registry: Registry, draining: Draining) -> JSONResponse:
    refused = {f"{e.location.name}/{e.location.version}": e.reason for e in registry if e.state == "UNAVAILABLE"}
    why = (
        "the server is stopping"
        if draining.started
        else "models are loading"
        if not registry.settled
        else "no model serves, or one was refused"
    )
    body: dict[str, Any] = {"ready": False, "error": why, "code": "unavailable", "refused": refused}
    return JSONResponse(body, 503, {"retry-after": "1"})

"""Wires everything together: `create_app(settings)`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.responses import Response

import service
from service.api.answers import Answer, error_answer, json_answer
from service.api.bodies import BodyLimits
from service.api.edge import Draining, Edge, Keys, allowed_hosts
from service.api.health import health_routes
from service.api.layers import Layers
from service.api.openapi import describe_verbs
from service.api.repository import repository_routes
from service.api.torchserve import TorchServe
from service.api.v1 import V1
from service.api.v2 import V2
from service.codecs.instance import Limits
from service.engine.processors import usable_cpus
from service.engine.session import bound_memory, choose_providers
from service.errors import BadRequest, WhyserveError
from service.explain.methods.request import Limits as ExplainLimits
from service.explain.pool import Pool
from service.explanations.cache import Cache
from service.explanations.shared import Shared
from service.lifecycle import Lifecycle
from service.repository.bundle import find_bundles
from service.repository.loaded import Loader
from service.repository.registry import Registry
from service.representations import Representations
from service.serving import AT_ONCE, Serving
from service.settings import Settings
from service.telemetry import Metrics

_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI's own looks for an OpenTelemetry provider at each request, three times; the metrics here are Prometheus'."""


def create_app(settings: Settings, draining: Draining | None = None, on_ready: Callable[[Registry], None] | None = None) -> FastAPI:
    """The service as an ASGI app. Models load in the background once its lifespan starts: the port answers at once.

    `draining` is set by whoever stops the server; `on_ready` is called once all bundles are loaded or refused.
    Raises BadSetting, BadBundle (no such model folder) and DeviceMissing.
    """
    choose_providers(settings.device)
    bound_memory(settings.model_memory_mib)
    find_bundles(settings.models, settings.model_name)
    draining = draining or Draining()
    metrics = Metrics()
    registry = Registry()
    threads = settings.threads or usable_cpus()
    executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix="run")
    pool = Pool.of(settings) if settings.explainers else None
    explaining = ExplainLimits(settings.timeout, settings.max_steps, settings.max_samples)
    serving = Serving(
        registry,
        pool,
        Shared(Cache(settings.explanation_cache_mib * 2**20, metrics), metrics),
        metrics,
        at_once=min(AT_ONCE, settings.explainer_queue),
        decoding_bytes=settings.max_decoding_mib * 2**20,
        max_instances=settings.max_instances,
        limits=explaining,
    )
    decoding = Limits(settings.max_pixels, settings.max_characters, settings.max_instances, settings.max_sound_samples)
    loader = Loader(settings.device, threads, decoding, executor, metrics)
    limits = BodyLimits(settings.max_body_bytes, settings.max_instances)
    lifecycle = Lifecycle(serving, loader, limits, metrics, settings.models, settings.model_name)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async def prepare() -> None:
            await lifecycle.load_all()
            if on_ready is not None:
                on_ready(registry)
            if pool is not None:
                await pool.start()  # after the models: until the first answer the cores belong to them

        preparing = asyncio.create_task(prepare())
        yield
        preparing.cancel()
        if pool is not None:
            await pool.stop()
        executor.shutdown(cancel_futures=True)

    v1, v2, torchserve = V1(serving, limits), V2(serving, limits), TorchServe(serving, limits)
    app = FastAPI(
        title="whyserve",
        version=service.__version__,
        summary="Predictions, and the reasons for them",
        lifespan=lifespan,
        redoc_url=None,
        telemetry=_NO_TELEMETRY,
    )
    layers = Layers(serving, Representations(serving, limits, explaining), limits)
    verbs = [*v1.verbs(), *layers.verbs(), *v2.verbs(), *torchserve.verbs()]
    app.router.routes[:0] = verbs  # first: the router asks its routes in order
    app.include_router(v1.router())
    app.include_router(layers.router())
    app.include_router(v2.router())
    app.include_router(repository_routes(lifecycle))
    app.include_router(health_routes(registry, metrics, draining, strict=settings.strict_ready))
    app.add_middleware(
        Edge,
        verbs=verbs,
        keys=Keys(settings.keys(), settings.administrators()),
        hosts=allowed_hosts(settings.host),
        draining=draining,
        rejected=metrics.rejected,
    )
    for error_class in (WhyserveError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(error_class, _answer_error)
    describe_verbs(app)
    app.state.registry = registry
    return app


async def _answer_error(request: Request, error: Exception) -> Response:
    """FastAPI's and Starlette's own errors in the contract's form: `{"error", "code"}`, never a 422."""
    answer = _of_framework(request, error)
    return Response(answer.body, answer.status, answer.headers, answer.media_type)


def _of_framework(request: Request, error: Exception) -> Answer:
    if isinstance(error, RequestValidationError):
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        return error_answer(BadRequest(f"{where}: {problem['msg']}"))
    if isinstance(error, HTTPException):
        known = {
            404: ("not_found", f"nothing is served at {request.url.path}"),
            405: ("method_not_allowed", f"{request.method} isn't served here"),
        }
        code, message = known.get(error.status_code, ("http_error", str(error.detail)))
        return json_answer({"error": message, "code": code}, error.status_code, dict(error.headers or {}))
    return error_answer(error)

"""Wires everything together: `create_app(settings)`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

import service
from service.api.answers import Answer, error_answer, json_answer
from service.api.bodies import BodyLimits
from service.api.edge import Draining, Edge, Keys, allowed_hosts
from service.api.explained import Finished
from service.api.explainer import inventory_routes, relay_routes
from service.api.health import health_routes
from service.api.later import Later
from service.api.layers import Layers
from service.api.openapi import describe_verbs
from service.api.repository import repository_routes
from service.api.torchserve import TorchServe
from service.api.v1 import V1
from service.api.v2 import V2
from service.codecs.instance import Limits
from service.engine.precedence import Precedence
from service.engine.processors import usable_cpus
from service.engine.providers import Gpu, choose_providers
from service.engine.session import bound_memory
from service.errors import BadRequest, WhyserveError
from service.explain.explainers import Explainers
from service.explain.forwarder import Forwarder
from service.explain.methods.request import Limits as ExplainLimits
from service.explain.pool import Pool, has_torch
from service.explanations.cache import Cache
from service.explanations.postponed import Postponed
from service.explanations.shared import Shared
from service.explanations.store import Store, StoreLimits
from service.lifecycle import Lifecycle
from service.repository.bundle import find_bundles
from service.repository.inventory import Inventory
from service.repository.loaded import Loader
from service.repository.registry import Registry
from service.representations import Representations
from service.serving import AT_ONCE, Serving
from service.settings import PREFIX, BadSetting, Settings
from service.telemetry import Metrics

_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI's own looks for an OpenTelemetry provider at each request, three times; the metrics here are Prometheus'."""


def create_app(settings: Settings, draining: Draining | None = None, on_ready: Callable[[Registry], None] | None = None) -> FastAPI:
    """The service as an ASGI app, in the role that the settings give it. Models load in the background once its lifespan
    starts: the port answers at once.

    `draining` is set by whoever stops the server; `on_ready` is called once all bundles are loaded or refused.
    Raises BadSetting, BadBundle (no such model folder) and DeviceMissing.
    """
    settings.require_role()
    find_bundles(settings.models, settings.model_name)
    create = _explaining_app if settings.role == "explainer" else _predicting_app
    return create(settings, draining or Draining(), on_ready or (lambda _: None))


def _predicting_app(settings: Settings, draining: Draining, on_ready: Callable[[Registry], None]) -> FastAPI:
    """Everything, the explanations by processes of its own or by another server."""
    choose_providers(settings.device)
    bound_memory(settings.model_memory_mib)
    metrics = Metrics()
    registry, precedence = Registry(), Precedence()
    threads = settings.threads or usable_cpus()
    executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix="run")
    explainers = _explainers(settings, metrics, precedence)
    explaining = ExplainLimits(settings.timeout, steps=settings.max_steps, samples=settings.max_samples)
    serving = Serving(
        registry,
        explainers,
        Shared(Cache(settings.explanation_cache_mib * 2**20, metrics), metrics),
        metrics,
        precedence,
        at_once=min(AT_ONCE, settings.explainer_queue),
        decoding_bytes=settings.max_decoding_mib * 2**20,
        max_instances=settings.max_instances,
        limits=explaining,
        later=replace(explaining, timeout=settings.async_timeout, timeout_setting="WHYSERVE_ASYNC_TIMEOUT"),
    )
    kept = settings.stored_explanations
    bounds = StoreLimits(kept, settings.stored_explanations_mib * 2**20, settings.stored_explanations_seconds, settings.key_share)
    store: Store[Finished] = Store(bounds, metrics)
    decoding = Limits(settings.max_pixels, settings.max_characters, settings.max_instances, settings.max_sound_samples)
    loader = Loader(settings.device, threads, decoding, executor, metrics, Gpu(settings.gpu_memory_mib, settings.gpu_tf32))
    limits = BodyLimits(settings.max_body_bytes, settings.max_instances)
    lifecycle = Lifecycle(serving, loader, limits, metrics, settings.models, settings.model_name)

    async def prepare() -> None:
        await lifecycle.load_all()
        on_ready(registry)

    async def end() -> None:
        await store.close()
        executor.shutdown(cancel_futures=True)

    later = Later(serving, store, Postponed(metrics)) if settings.stored_explanations else None
    v1, v2, torchserve = V1(serving, limits, later), V2(serving, limits), TorchServe(serving, limits)
    layers = Layers(serving, Representations(serving, limits, explaining), limits)
    app = _empty_app(prepare, explainers, end)
    app.include_router(v1.router())
    if later is not None:
        app.include_router(later.router())
    app.include_router(layers.router())
    app.include_router(v2.router())
    app.include_router(repository_routes(lifecycle))
    app.include_router(health_routes(registry, metrics, draining, strict=settings.strict_ready))
    _frame(app, [*v1.verbs(), *layers.verbs(), *v2.verbs(), *torchserve.verbs()], settings, draining, metrics)
    app.state.registry = registry
    return app


def _explaining_app(settings: Settings, draining: Draining, on_ready: Callable[[Registry], None]) -> FastAPI:
    """Explanations for predictors, and nothing else. Models are opened in the explainer processes only."""
    if not has_torch():
        raise BadSetting(f"setting {PREFIX}ROLE=explainer needs torch, captum and onnx (extra 'explain')")
    metrics = Metrics()
    pool = Pool.of(settings, metrics, Precedence())
    inventory = Inventory(settings.models, settings.model_name)

    async def prepare() -> None:
        await inventory.take()
        on_ready(inventory.registry)

    def lacks() -> str:
        if pool.device_missing:
            return "no explainer can have the device that WHYSERVE_DEVICE asks for"
        return "" if pool.ready else "no explainer process answers"

    app = _empty_app(prepare, pool)
    app.include_router(inventory_routes(inventory))
    app.include_router(health_routes(inventory.registry, metrics, draining, strict=settings.strict_ready, lacks=lacks))
    # Decoded tensors are many times the pictures that a predictor took within its own limit.
    most = settings.max_body_bytes if "max_body_mib" in settings.model_fields_set else settings.explainer_memory_mib * 2**20 // 4
    verbs = relay_routes(inventory, pool, metrics, max_bytes=most, longest=max(settings.timeout, settings.async_timeout))
    _frame(app, verbs, settings, draining, metrics)
    app.state.registry = inventory.registry
    return app


def _explainers(settings: Settings, metrics: Metrics, precedence: Precedence) -> Explainers | None:
    """Who computes a predicting server's explanations; None: nobody."""
    if settings.explainer_url is not None:
        key = settings.key_of_explainer()
        most, share = settings.explainer_queue, settings.key_share
        return Forwarder(settings.explainer_url, key, most=most, share=share, timeout=settings.timeout, precedence=precedence)
    return Pool.of(settings, metrics, precedence) if settings.explainers else None


async def _nothing() -> None:
    """Ends what needs no end."""


def _empty_app(
    prepare: Callable[[], Awaitable[None]], explainers: Explainers | None, end: Callable[[], Awaitable[None]] = _nothing
) -> FastAPI:
    """An app without routes, whose lifespan prepares in the background."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async def begin() -> None:
            await prepare()
            if explainers is not None:
                await explainers.start()  # after the models: until the first answer the cores belong to them

        beginning = asyncio.create_task(begin())
        yield
        beginning.cancel()
        await end()
        if explainers is not None:
            await explainers.stop()

    return FastAPI(
        title="whyserve",
        version=service.__version__,
        summary="Predictions, and the reasons for them",
        lifespan=lifespan,
        redoc_url=None,
        telemetry=_NO_TELEMETRY,
    )


def _frame(app: FastAPI, verbs: list[Route], settings: Settings, draining: Draining, metrics: Metrics) -> None:
    """What is around every route: keys, the Host check, errors in one form; the verbs before the other routes."""
    app.router.routes[:0] = verbs  # first: the router asks its routes in order
    for error_class in (WhyserveError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(error_class, _answer_error)
    # Outside of the framework's own layers (`add_middleware` puts it inside), so that a verb is reached without them.
    app.middleware_stack = Edge(
        app.build_middleware_stack(),
        verbs=verbs,
        keys=Keys(settings.keys(), settings.administrators()),
        hosts=allowed_hosts(settings.host),
        draining=draining,
        rejected=metrics.rejected,
    )
    describe_verbs(app, verbs)
    app.state.role = settings.role


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
        explainer = request.app.state.role == "explainer"
        elsewhere = "; this is an explainer (WHYSERVE_ROLE), which answers V2 explain, status and studies" if explainer else ""
        known = {
            404: ("not_found", f"nothing is served at {request.url.path}{elsewhere}"),
            405: ("method_not_allowed", f"{request.method} isn't served here"),
        }
        code, message = known.get(error.status_code, ("http_error", str(error.detail)))
        return json_answer({"error": message, "code": code}, error.status_code, dict(error.headers or {}))
    return error_answer(error)

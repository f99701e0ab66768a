"""A model's layers: listed, their filters, what they make of an instance, their shares in its output, what their units look for."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.routing import Route

from service.api import schemas_layers as schemas
from service.api.answers import HTML, JSON, PNG, Answer, json_answer, negotiate, page_answer, picture_answer
from service.api.bodies import BodyLimits
from service.api.verbs import Call, Handle, Operation, Verb, unless_hung_up
from service.codecs.explanation import as_height_width_channel
from service.codecs.image import encode_png, image_output_pixels
from service.explain.layers.studied import Studied
from service.explain.render import representation as drawing
from service.explain.render.sheet import Picture
from service.manifest import Input, Manifest
from service.repository.loaded import LoadedModel
from service.representations import Representations
from service.serving import Serving

_FORMS = (JSON, PNG, HTML)
_DRAWN: dict[int | str, dict[str, Any]] = {200: {"content": {PNG: {"schema": {"type": "string", "format": "binary"}}, HTML: {}}}}


class Layers:
    """Routes over one Serving's models."""

    def __init__(self, serving: Serving, representations: Representations, limits: BodyLimits) -> None:
        self._serving = serving
        self._representations = representations
        self._limits = limits

    def verbs(self) -> list[Route]:
        """Plain routes, to stand first in the app's list."""
        handles: dict[Operation, Handle] = {
            "activations": self._activations,
            "explain-layer": self._explain,
            "visualise": self._visualise,
        }
        routes: list[Route] = []
        for operation, handle in handles.items():
            app = Verb(self._serving.registry, self._serving.precedence, operation, self._limits, handle)
            paths = ("/v1/models/{name}:", "/v1/models/{name}/versions/{version}:")
            routes += [Route(path + operation, app, methods=["POST", "PUT"], name=f"v1_{operation}") for path in paths]
        return routes

    def router(self) -> APIRouter:
        router = APIRouter(tags=["layers"])
        registry = self._serving.registry

        @router.get("/v1/models/{name}/layers", summary="The layers of the model, with what can be asked of each")
        @router.get("/v1/models/{name}/versions/{version}/layers", summary="The layers of the version")
        async def layers(request: Request, name: str, version: str | None = None) -> schemas.Layers:
            studied = await self._representations.layers(registry.model(name, version), request.state.caller)
            return schemas.Layers.model_validate(dict(studied.fields))

        @router.get(
            "/v1/models/{name}/filters",
            summary="The filters of a layer, by default of the first convolution",
            response_model=schemas.Filters,
            responses=_DRAWN,
        )
        @router.get(
            "/v1/models/{name}/versions/{version}/filters",
            summary="The filters of a layer of the version",
            response_model=schemas.Filters,
            responses=_DRAWN,
        )
        async def filters(request: Request, name: str, version: str | None = None) -> Response:
            form = negotiate(request.headers.get("accept", ""), _FORMS)
            model = registry.model(name, version)
            studied = await self._representations.filters(model, dict(request.query_params), request.state.caller)
            body = {"layer": studied.fields["layer"], "axes": studied.fields["axes"], "values": studied.rows[0]["values"]}
            answer = await _answer(form, model, lambda: drawing.draw_filters(model.manifest, studied), body, "filters")
            return Response(answer.body, answer.status, answer.headers, answer.media_type)

        return router

    async def _activations(self, call: Call) -> Answer:
        form = negotiate(call.accept, _FORMS)
        parsed = await call.parse(self._limits)
        work = self._representations.activations(call.model, parsed.instances, parsed.parameters, call.caller)
        seen = await unless_hung_up(work, call.receive)
        studied, manifest = seen.studied, call.model.manifest
        body = {"activations": [dict(row) for row in studied.rows], **studied.fields, **_signature(call)}
        return await _answer(form, call.model, lambda: drawing.draw_activations(manifest, studied), body, "activations")

    async def _explain(self, call: Call) -> Answer:
        form = negotiate(call.accept, _FORMS)
        parsed = await call.parse(self._limits)
        work = self._representations.explain(call.model, parsed.instances, parsed.parameters, call.caller)
        seen = await unless_hung_up(work, call.receive)
        studied, manifest = seen.studied, call.model.manifest
        rows = [
            {"attributions": None, **row, "warnings": [*row["warnings"], *instance.warnings]}
            for row, instance in zip(studied.rows, seen.instances, strict=True)
        ]
        body = {"explanations": rows, **studied.fields, **_signature(call)}
        return await _answer(form, call.model, lambda: drawing.draw_attributions(manifest, studied), body, "shares of a layer")

    async def _visualise(self, call: Call) -> Answer:
        form = negotiate(call.accept, _FORMS)
        parsed = await call.parse(self._limits, may_be_none=True)
        work = self._representations.visualise(call.model, parsed.instances, parsed.parameters, call.caller)
        studied = await unless_hung_up(work, call.receive)
        manifest = call.model.manifest
        body = {"visualisations": _encoded(manifest, studied), **studied.fields, **_signature(call)}
        return await _answer(form, call.model, lambda: drawing.draw_visualisations(manifest, studied), body, "what units look for")


async def _answer(form: str, model: LoadedModel, draw: Callable[[], Picture], body: Mapping[str, Any], alt: str) -> Answer:
    if form == JSON:
        return await asyncio.to_thread(json_answer, body)
    picture = await asyncio.to_thread(draw)
    if form == PNG:
        return picture_answer(await asyncio.to_thread(drawing.as_png, picture))
    return page_answer(await asyncio.to_thread(drawing.as_page, model.manifest, picture, alt))


def _encoded(manifest: Manifest, studied: Studied) -> list[dict[str, Any]]:
    """Pictures beside their values, so that nothing has to be drawn to look at them."""
    entry = next(i for i in manifest.inputs if i.name == studied.fields["input"])
    rows = []
    for row in studied.rows:
        picture = _picture(entry, manifest, row)
        shown = {} if picture is None else {"b64": base64.b64encode(picture).decode("ascii"), "media_type": PNG}
        rows.append({name: value for name, value in row.items() if name != "made"} | shown)
    return rows


def _picture(entry: Input, manifest: Manifest, row: Mapping[str, Any]) -> bytes | None:
    if "made" in row:
        return encode_png(image_output_pixels(row["made"], manifest.outputs[0]))
    if entry.image is None:
        return None
    low, high = entry.range or (0.0, 255.0)
    pixels = (as_height_width_channel(row["values"], entry) - low) * (255 / (high - low))
    return encode_png(pixels.clip(0, 255).round().astype("uint8"))


def _signature(call: Call) -> dict[str, Any]:
    return {"model_name": call.model.name, "model_version": str(call.model.version), "id": call.id}

"""KServe's V1 protocol, extended: list, ready, `:predict`, `:explain`, `:generate`, methods."""

from __future__ import annotations

import base64
import math
from typing import Any

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.api.answers import JSON, PNG, Answer, json_answer, negotiate, picture_answer
from service.api.bodies import BodyLimits
from service.api.explained import Finished
from service.api.later import Later, prefers_later, signature
from service.api.verbs import Call, Handle, Operation, Verb, unless_hung_up
from service.codecs.image import encode_png, grid, image_output_pixels
from service.errors import TooLarge
from service.explain.render.answer import drawable
from service.parameters import GenerateParameters, PredictParameters, check
from service.serving import Serving
from service.telemetry import OPERATIONS


class V1:
    """The verbs of the protocol over one Serving."""

    def __init__(self, serving: Serving, limits: BodyLimits, later: Later | None) -> None:
        """`later` None: a preference for an answer later is not followed (RFC 7240 leaves that to the server)."""
        self._serving = serving
        self._later = later
        self._limits = limits

    def verbs(self) -> list[Route]:
        """Plain routes, to stand first in the app's list."""
        handles: dict[Operation, Handle] = {"predict": self._predict, "explain": self._explain, "generate": self._generate}
        routes: list[Route] = []
        for operation, handle in handles.items():
            app = Verb(self._serving.registry, self._serving.precedence, operation, self._limits, handle)
            paths = ("/v1/models/{name}:", "/v1/models/{name}/versions/{version}:")
            routes += [Route(path + operation, app, methods=["POST", "PUT"], name=f"v1_{operation}") for path in paths]
        return routes

    async def _predict(self, call: Call) -> Answer:
        negotiate(call.accept, (JSON,))
        parsed = await call.parse(self._limits)
        predictions = await self._serving.predict(call.model, parsed.instances, check(PredictParameters, parsed.parameters))
        return json_answer({"predictions": predictions, **_signature(call)})

    async def _explain(self, call: Call) -> Answer:
        negotiate(call.accept, drawable(call.model.manifest))
        parsed = await call.parse(self._limits)
        if self._later is not None and prefers_later(call.headers):
            return await self._later.accept(call, parsed)
        work = self._serving.explain(call.model, parsed.instances, parsed.parameters, call.caller)
        explained = await unless_hung_up(work, call.receive)
        return await Finished(call.model.manifest, explained, signature(call)).answer(call.accept)

    async def _generate(self, call: Call) -> Answer:
        form = negotiate(call.accept, (JSON, PNG))
        parsed = await call.parse(self._limits, may_be_none=True)
        parameters = check(GenerateParameters, parsed.parameters)
        if not parsed.instances and parameters.n > self._limits.max_instances:
            raise TooLarge(f"parameter 'n': {parameters.n}, at most {self._limits.max_instances} (setting WHYSERVE_MAX_INSTANCES)")
        made = await self._serving.generate(call.model, parsed.instances, parameters)
        output = call.model.manifest.outputs[0]
        pictures = [image_output_pixels(one.outputs[output.name], output) for one in made]  # (H, W) or (H, W, 3) uint8 each
        if form == PNG:
            return picture_answer(encode_png(grid(pictures, math.ceil(math.sqrt(len(pictures))))))
        generations = [
            {
                "b64": base64.b64encode(encode_png(picture)).decode("ascii"),
                "media_type": PNG,
                **{name: array.tolist() for name, array in one.inputs.items()},
            }
            for picture, one in zip(pictures, made, strict=True)
        ]
        return json_answer({"generations": generations, **_signature(call)})

    def router(self) -> APIRouter:
        """Everything of the protocol that isn't an inference."""
        router = APIRouter(tags=["v1"])
        registry = self._serving.registry
        for operation in OPERATIONS:  # else the routes below would take `name:predict` for a name
            router.add_route(f"/v1/models/{{name}}:{operation}", _only_sent, include_in_schema=False)
            router.add_route(f"/v1/models/{{name}}/versions/{{version}}:{operation}", _only_sent, include_in_schema=False)

        @router.get("/v1/models", summary="Names of the models")
        async def models() -> dict[str, list[str]]:
            return {"models": registry.names()}

        @router.get("/v1/models/{name}", summary="Whether the model serves", responses={503: {}})
        @router.get("/v1/models/{name}/versions/{version}", summary="Whether the version serves", responses={503: {}})
        async def ready(name: str, version: str | None = None) -> JSONResponse:
            entry = registry.entry(name, version)
            if entry.state == "READY":
                return JSONResponse({"name": name, "ready": True})
            body = {"name": name, "ready": False, "error": entry.reason or entry.state.lower(), "code": "unavailable"}
            return JSONResponse(body, 503, {"retry-after": "5"})

        @router.get("/v1/models/{name}/methods", summary="The explanation methods of the model, with their parameters as JSON Schema")
        @router.get("/v1/models/{name}/versions/{version}/methods", summary="The explanation methods of the version")
        async def methods(name: str, version: str | None = None) -> dict[str, Any]:
            return {"methods": await self._serving.methods(registry.model(name, version))}

        return router


async def _only_sent(_: Request) -> Response:
    raise HTTPException(405, headers={"allow": "POST, PUT"})


def _signature(call: Call) -> dict[str, Any]:
    return {"model_name": call.model.name, "model_version": str(call.model.version), "id": call.id}

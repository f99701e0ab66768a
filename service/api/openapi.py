"""OpenAPI for the inference verbs, which are plain routes that FastAPI knows nothing of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.routing import Route

from service.api import schemas
from service.api import schemas_layers as layers
from service.codecs.v2_bodies import RequestBody, ResponseBody

_REFERENCE = "#/components/schemas/{model}"
_RAW = ("image/*", "text/plain", "audio/wav", "multipart/form-data")
_TENSORS = ("application/octet-stream",)
_DRAWN = ("image/png", "text/html")
_VERBS: Sequence[tuple[str, str, type[BaseModel], type[BaseModel], tuple[str, ...], tuple[str, ...]]] = (
    ("/v1/models/{name}:predict", "Predict", schemas.Request, schemas.Predictions, _RAW, ()),
    ("/v1/models/{name}:explain", "Predict, and say why", schemas.Request, schemas.Explanations, _RAW, ("image/png", "text/html")),
    ("/v1/models/{name}:generate", "Generate", schemas.GenerateRequest, schemas.Generations, (), ("image/png",)),
    ("/v1/models/{name}:activations", "What a layer gives", schemas.Request, layers.Activations, _RAW, _DRAWN),
    ("/v1/models/{name}:explain-layer", "Shares of a layer's units", schemas.Request, layers.LayerExplanations, _RAW, _DRAWN),
    ("/v1/models/{name}:visualise", "What units look for", schemas.GenerateRequest, layers.Visualisations, (), _DRAWN),
    ("/v2/models/{name}/infer", "Infer, JSON or binary tensors", RequestBody, ResponseBody, _TENSORS, _TENSORS),
    ("/v2/models/{name}/explain", "Attributions as tensors", RequestBody, ResponseBody, _TENSORS, _TENSORS),
)  # fmt: skip
_ERRORS = {
    "400": "the body or a parameter is wrong",
    "404": "no such model",
    "413": "beyond a limit",
    "415": "media type not served",
    "503": "not ready, or queue full",
    "504": "deadline",
}


def describe_verbs(app: FastAPI, routes: Sequence[Route]) -> None:
    """Adds the verbs among `routes` to what `app.openapi()` answers, so that /docs is complete."""
    generate = app.openapi
    served = {route.path for route in routes}

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            models: list[type[BaseModel]] = [schemas.Error, schemas.Pending]
            models += {model for verb in _VERBS for model in verb[2:4]}
            _, definitions = models_json_schema(
                [(model, "serialization") for model in sorted(models, key=lambda m: m.__name__)], ref_template=_REFERENCE
            )
            document.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
            for path, summary, request, response, takes, gives in _VERBS:
                for full in {path, _with_version(path)} & served:
                    operation = _operation(full, summary, request, response, takes, gives)
                    document["paths"][full] = {"post": _answered_later(operation) if path.endswith(":explain") else operation}
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def _answered_later(operation: dict[str, Any]) -> dict[str, Any]:
    """The operation where the client may prefer its answer later (RFC 7240)."""
    content = {"application/json": {"schema": {"$ref": _REFERENCE.format(model="Pending")}}}
    later = {"description": "with Prefer: respond-async: Location says where the answer will be", "content": content}
    prefer = {"name": "Prefer", "in": "header", "schema": {"type": "string"}, "description": "respond-async"}
    return operation | {
        "parameters": [*operation["parameters"], prefer],
        "responses": operation["responses"] | {"202": later},
    }


def _with_version(path: str) -> str:
    return path.replace("{name}", "{name}/versions/{version}")


def _operation(
    path: str, summary: str, request: type[BaseModel], response: type[BaseModel], takes: tuple[str, ...], gives: tuple[str, ...]
) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    reference = _REFERENCE.format(model="{}")
    names = [name for name in ("name", "version") if "{" + name + "}" in path]
    error = {"application/json": {"schema": {"$ref": reference.format("Error")}}}
    return {
        "summary": summary,
        "tags": ["inference"],
        "parameters": [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": reference.format(request.__name__)}}} | dict.fromkeys(takes, binary),
        },
        "responses": {
            "200": {
                "description": summary,
                "content": {"application/json": {"schema": {"$ref": reference.format(response.__name__)}}} | dict.fromkeys(gives, binary),
            }
        }
        | {status: {"description": why, "content": error} for status, why in _ERRORS.items()},
    }

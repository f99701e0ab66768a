"""Open Inference Protocol V2 over HTTP: metadata, infer and explain with JSON or binary tensors, the repository's index.

Specification: kserve/open-inference-protocol `inference_rest.md`; repository and binary tensors as Triton's extensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse
from starlette.routing import Route

import service
from service.api.answers import Answer
from service.api.bodies import BodyLimits, Fields
from service.api.verbs import Call, Verb, unless_hung_up
from service.codecs.datatypes import datatype_named
from service.codecs.v2 import InferRequest, InferResponse, Tensor, decode_request, encode_response
from service.errors import BadRequest
from service.explain.answer import encode
from service.manifest import Input, Output
from service.repository.loaded import LoadedModel
from service.repository.registry import Entry
from service.serving import Serving

_HEADER = b"inference-header-content-length"
_DIGITS = 18
"""Of a length at most: Python refuses to read a number of thousands of digits."""
_MODEL = "/v2/models/{name}"
_VERSION = _MODEL + "/versions/{version}"


class V2:
    """The protocol over one Serving."""

    def __init__(self, serving: Serving, limits: BodyLimits) -> None:
        self._serving = serving
        self._limits = limits

    def verbs(self) -> list[Route]:
        """Plain routes, to stand first in the app's list."""
        infer = Verb(self._serving.registry, self._serving.precedence, "predict", self._limits, self._infer)
        explain = Verb(self._serving.registry, self._serving.precedence, "explain", self._limits, self._explain)
        return [
            Route(f"{path}/{verb}", app, methods=["POST"], name=f"v2_{verb}")
            for verb, app in (("infer", infer), ("explain", explain))
            for path in (_MODEL, _VERSION)
        ]

    async def _infer(self, call: Call) -> Answer:
        request = _request(call)
        outputs = await self._serving.infer(call.model, request.inputs)
        return _response(call, request, tuple(Tensor(name, array) for name, array in outputs.items()))

    async def _explain(self, call: Call) -> Answer:
        request = _request(call)
        work = self._serving.explain_arrays(call.model, request.inputs, explain_parameters(request.parameters), call.caller)
        answer = await unless_hung_up(work, call.receive)
        # An attribution has the shape of a row of its input: a discrete input's is summed up to one number an element.
        inputs = answer.inputs or [i.name for i in call.model.manifest.inputs]
        shapes = {name: request.inputs[name].shape[1:] for name in inputs}
        response = encode(answer, shapes, call.model.name, str(call.model.version), request.id)
        return _response(call, request, response.outputs, response.parameters)

    def router(self) -> APIRouter:
        """Everything of the protocol that isn't an inference."""
        router = APIRouter(tags=["open inference protocol"])
        registry = self._serving.registry

        @router.get("/v2", summary="Server metadata")
        async def server() -> dict[str, Any]:
            extensions = ["binary_tensor_data", "model_repository"]
            return {"name": "whyserve", "version": service.__version__, "extensions": extensions}

        @router.get("/v2/models", summary="Names of the models")
        async def models() -> dict[str, list[str]]:
            return {"models": registry.names()}

        @router.get(_MODEL, summary="Model metadata")
        @router.get(_VERSION, summary="Model metadata")
        async def metadata(name: str, version: str | None = None) -> dict[str, Any]:
            versions = [str(number) for number in sorted(registry.entries[registry.entry(name, version).location.name])]
            return _metadata(registry.model(name, version), versions)

        @router.get(_MODEL + "/ready", summary="Whether the model serves", responses={503: {}})
        @router.get(_VERSION + "/ready", summary="Whether the model serves", responses={503: {}})
        async def ready(name: str, version: str | None = None) -> JSONResponse:
            return readiness(registry.entry(name, version))

        @router.post("/v2/repository/index", summary="Every version, its state and why")
        async def index() -> list[dict[str, str]]:
            return [indexed(entry) for entry in registry]

        return router


def explain_parameters(sent: Mapping[str, Any]) -> dict[str, Any]:
    """V2's parameters as a method's: what tritonclient adds for others' sake dropped, `timeout` from microseconds to seconds."""
    kept = {name: value for name, value in sent.items() if not name.startswith("sequence_") and name != "priority"}
    if isinstance(timeout := kept.get("timeout"), int | float):
        kept["timeout"] = timeout / 1e6
    return kept


def _request(call: Call) -> InferRequest:
    declared = call.model.manifest.inputs
    return decode_request(call.body, header_length(call.headers), declared[0] if len(declared) == 1 else None)


def header_length(headers: Fields) -> int | None:
    """The JSON header's length as the request says it, None where it doesn't. Raises BadRequest."""
    sent = headers.get(_HEADER)
    if sent is None:
        return None
    if not sent.isdigit() or len(sent) > _DIGITS:
        got = sent[:40].decode("latin-1")
        raise BadRequest(f"Inference-Header-Content-Length: expected the number of bytes of the JSON header, got {got!r}")
    return int(sent)


def _response(call: Call, request: InferRequest, tensors: tuple[Tensor, ...], parameters: dict[str, Any] | None = None) -> Answer:
    response = InferResponse(call.model.name, tensors, str(call.model.version), request.id, parameters or {})
    body, header_length = encode_response(response, request.select([tensor.name for tensor in tensors]))
    if header_length is None:
        return Answer(body)
    return Answer(body, 200, "application/octet-stream", {_HEADER.decode(): str(header_length)})


def _metadata(model: LoadedModel, versions: list[str]) -> dict[str, Any]:
    return {
        "name": model.name,
        "versions": versions,
        "platform": "onnx_onnxv1",
        "inputs": [_described(tensor) for tensor in model.graph_inputs],
        "outputs": [_described(tensor) for tensor in model.manifest.outputs],
    }


def _described(tensor: Input | Output) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": datatype_named(tensor.dtype), "shape": [-1, *(size or -1 for size in tensor.shape)]}


def readiness(entry: Entry) -> JSONResponse:
    """Whether a version serves, else why not."""
    name = entry.location.name
    if entry.state == "READY":
        return JSONResponse({"name": name, "ready": True})
    body = {"name": name, "ready": False, "error": entry.reason or entry.state.lower(), "code": "unavailable"}
    return JSONResponse(body, 503, {"retry-after": "5"})


def indexed(entry: Entry) -> dict[str, str]:
    """An entry of the repository's index."""
    return {"name": entry.location.name, "version": str(entry.location.version), "state": entry.state, "reason": entry.reason}

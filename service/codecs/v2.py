"""The Open Inference Protocol V2's requests and responses, JSON and binary, in both directions: bytes to tensors and back.

Specification: kserve/open-inference-protocol `inference_rest.md`; binary tensors and the raw form are Triton's extension
`binary_tensor_data`. A body is a JSON header, followed by the blobs of its binary tensors where the HTTP header
`Inference-Header-Content-Length` gives the JSON's length (counted before any compression); without that HTTP header the
body is JSON only. Dispatch on that header, never on Content-Type: tritonclient sends none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
import orjson
from pydantic import BaseModel, ValidationError

from service.codecs.datatypes import (
    DTYPES,
    READABLE,
    datatype_named,
    datatype_of,
    decode_binary,
    decode_json,
    encode_binary,
    encode_json,
)
from service.codecs.numbers import Array
from service.codecs.v2_bodies import InputBody, Parameter, RequestBody, ResponseBody, ResponseOutputBody
from service.errors import BadInput, BadParameter, BadRequest, UnknownChoice
from service.manifest import Input

Wire = TypeVar("Wire", bound=BaseModel)
_ALIGNMENT = 8
"""Headers written here are padded with spaces so that the first blob starts at a multiple of this and is read in place."""


class Tensor(NamedTuple):
    """A named array. The wire's BYTES are an object array of `bytes` (or of `str`, when encoding)."""

    name: str
    array: Array


class RequestedOutput(NamedTuple):
    name: str
    binary: bool


@dataclass(frozen=True, slots=True, eq=False)
class InferRequest:
    inputs: dict[str, Array]
    id: str = ""
    parameters: dict[str, Parameter] = field(default_factory=dict)
    outputs: tuple[RequestedOutput, ...] | None = None
    """Those asked for, in that order; None: all."""
    binary_default: bool = False
    """Whether outputs that aren't named in `outputs` are wanted as binary data."""

    def select(self, available: Iterable[str]) -> tuple[RequestedOutput, ...]:
        """What to answer of the outputs there are, in the order asked. Raises UnknownChoice."""
        known = tuple(available)
        if self.outputs is None:
            return tuple(RequestedOutput(name, self.binary_default) for name in known)
        for output in self.outputs:
            if output.name not in known:
                raise UnknownChoice("output", output.name, known)
        return self.outputs


@dataclass(frozen=True, slots=True, eq=False)
class InferResponse:
    model_name: str
    outputs: tuple[Tensor, ...]
    model_version: str = ""
    id: str = ""
    parameters: dict[str, Parameter] = field(default_factory=dict)

    def array(self, name: str) -> Array:
        """The output of that name. Raises KeyError."""
        return {output.name: output.array for output in self.outputs}[name]


# ------------------------------------------------------------------------------------------------------------------ requests


def decode_request(body: bytes, header_length: int | None, raw_input: Input | None = None) -> InferRequest:
    """The request of a body.

    `header_length` is the number in `Inference-Header-Content-Length`, None without that HTTP header. With 0 (the raw
    form) the body is one row of the model's only input, `raw_input`, and all outputs are wanted as binary data.
    Arrays of binary inputs are read-only views of the body. Raises BadRequest, BadParameter and BadInput.
    """
    if header_length == 0:
        return _decode_raw(body, raw_input)
    header, blobs = _split(body, header_length)
    wire = _parse(RequestBody, header, "inference request")
    parameters = dict(wire.parameters)
    binary_default = parameters.pop("binary_data_output", False)
    if not isinstance(binary_default, bool):
        raise BadParameter(f"parameter 'binary_data_output': expected true or false, got {binary_default!r}")
    outputs = None
    if wire.outputs:
        outputs = tuple(RequestedOutput(o.name, binary_default if (b := o.parameters.binary_data) is None else b) for o in wire.outputs)
        _require_distinct("output", [output.name for output in outputs])
    return InferRequest(
        inputs={tensor.name: tensor.array for tensor in _decode_tensors(wire.inputs, blobs, "input")},
        id=wire.id,
        parameters=parameters,
        outputs=outputs,
        binary_default=binary_default,
    )


def encode_request(request: InferRequest, *, binary: bool = True) -> tuple[bytes, int | None]:
    """The body and, where it holds blobs (`binary`), its `Inference-Header-Content-Length`."""
    return _join(*described(request, binary=binary))


def described(request: InferRequest, *, binary: bool = True) -> tuple[dict[str, Any], list[bytes | memoryview]]:
    """The JSON header, and the blobs that follow it where `binary`; views of the request's arrays, where they are contiguous."""
    tensors = [Tensor(name, array) for name, array in request.inputs.items()]
    inputs, blobs = _encode_tensors(tensors, frozenset(request.inputs) if binary else frozenset())
    parameters = request.parameters | ({"binary_data_output": True} if request.binary_default else {})
    outputs = request.outputs and [{"name": o.name, "parameters": {"binary_data": o.binary}} for o in request.outputs]
    header = {"id": request.id, "parameters": parameters, "inputs": inputs, "outputs": outputs}
    return {key: value for key, value in header.items() if value}, blobs


def _decode_raw(body: bytes, raw_input: Input | None) -> InferRequest:
    if raw_input is None:
        raise BadRequest("a body without JSON header (Inference-Header-Content-Length: 0) needs a model with one input only")
    what = f"input {raw_input.name!r}"
    if raw_input.dtype == "string":
        element = np.empty(1, np.object_)
        element[0] = body
        shape = (1, *_complete(raw_input, 1, what))
        if math.prod(shape) != 1:
            raise BadRequest(f"{what}: a raw body is one element, the model takes {list(raw_input.shape)}; send a JSON header")
        array: Array = element.reshape(shape)
    else:
        datatype = datatype_named(raw_input.dtype)
        elements = len(body) // DTYPES[datatype].itemsize
        array = decode_binary(memoryview(body), datatype, (1, *_complete(raw_input, elements, what)), what)
    return InferRequest(inputs={raw_input.name: array}, binary_default=True)


def _complete(raw_input: Input, elements: int, what: str) -> tuple[int, ...]:
    """The row's shape, its one variable size taken from the number of elements that came."""
    if raw_input.shape.count(None) > 1:
        raise BadRequest(f"{what}: a raw body leaves the shape open, the model takes {list(raw_input.shape)}; send a JSON header")
    rest = math.prod(size for size in raw_input.shape if size is not None)
    return tuple(elements // max(rest, 1) if size is None else size for size in raw_input.shape)


# ----------------------------------------------------------------------------------------------------------------- responses


def encode_response(response: InferResponse, wanted: Iterable[RequestedOutput]) -> tuple[bytes, int | None]:
    """The body and, where it holds blobs, its `Inference-Header-Content-Length`.

    `wanted` (see `InferRequest.select`) says which outputs in which order and form; the response has them all.
    """
    arrays = {output.name: output.array for output in response.outputs}
    wanted = tuple(wanted)
    tensors = [Tensor(output.name, arrays[output.name]) for output in wanted]
    outputs, blobs = _encode_tensors(tensors, frozenset(output.name for output in wanted if output.binary))
    optional = {"model_version": response.model_version, "id": response.id, "parameters": response.parameters}
    header = {"model_name": response.model_name} | {key: value for key, value in optional.items() if value}
    return _join(header | {"outputs": outputs}, blobs)


def decode_response(body: bytes | bytearray, header_length: int | None) -> InferResponse:
    """The response of a body, its `Inference-Header-Content-Length` or None. Raises BadRequest and BadInput."""
    header, blobs = _split(body, header_length)
    wire = _parse(ResponseBody, header, "inference response")
    outputs = tuple(_decode_tensors(wire.outputs, blobs, "output"))
    return InferResponse(wire.model_name, outputs, wire.model_version, wire.id, dict(wire.parameters))


# ----------------------------------------------------------------------------------------------------------------- the parts


def _split(body: bytes | bytearray, header_length: int | None) -> tuple[memoryview, memoryview]:
    view = memoryview(body)
    if header_length is None:
        return view, view[len(view) :]
    if not 0 < header_length <= len(view):
        raise BadRequest(f"Inference-Header-Content-Length is {header_length}, the body has {len(view)} bytes")
    return view[:header_length], view[header_length:]


def _parse(model: type[Wire], header: memoryview, what: str) -> Wire:
    try:
        return model.model_validate(orjson.loads(header))
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the {what} isn't valid JSON: {error} (NaN and Infinity are no JSON: send them as binary data)") from None
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}" for fault in error.errors(include_url=False)[:3]]
        raise BadRequest(f"the {what} doesn't fit the protocol: {'; '.join(faults)}") from None


def _decode_tensors(wire: Iterable[InputBody] | Iterable[ResponseOutputBody], blobs: memoryview, kind: str) -> list[Tensor]:
    tensors: list[Tensor] = []
    position = 0
    for item in wire:
        what, shape, size = f"{kind} {item.name!r}", tuple(item.shape), item.parameters.binary_data_size
        if item.datatype not in READABLE:
            raise UnknownChoice(f"datatype of {what}", item.datatype, READABLE)
        if (size is None) == (item.data is None):
            raise BadInput(f"{what}: expected either data or the parameter binary_data_size, got {'neither' if size is None else 'both'}")
        if size is None:
            tensors.append(Tensor(item.name, decode_json(item.data, item.datatype, shape, what)))
            continue
        if position + size > len(blobs):
            raise BadInput(f"{what}: binary_data_size is {size}, {len(blobs) - position} bytes are left in the body")
        tensors.append(Tensor(item.name, decode_binary(blobs[position : position + size], item.datatype, shape, what)))
        position += size
    if position != len(blobs):
        raise BadInput(f"{len(blobs)} bytes follow the JSON header, the {kind}s' binary_data_size add up to {position}")
    _require_distinct(kind, [tensor.name for tensor in tensors])
    return tensors


def _encode_tensors(tensors: Iterable[Tensor], binary: frozenset[str]) -> tuple[list[dict[str, Any]], list[bytes | memoryview]]:
    described: list[dict[str, Any]] = []
    blobs: list[bytes | memoryview] = []
    for tensor in tensors:
        item: dict[str, Any] = {"name": tensor.name, "shape": tensor.array.shape, "datatype": datatype_of(tensor.array)}
        if tensor.name in binary:
            blob = encode_binary(tensor.array)
            blobs.append(blob)
            item["parameters"] = {"binary_data_size": len(blob)}
        else:
            item["data"] = encode_json(tensor.array)
        described.append(item)
    return described, blobs


def _join(header: dict[str, Any], blobs: list[bytes | memoryview]) -> tuple[bytes, int | None]:
    document = orjson.dumps(header, option=orjson.OPT_SERIALIZE_NUMPY)
    if not blobs:
        return document, None
    document += b" " * (-len(document) % _ALIGNMENT)
    return b"".join((document, *blobs)), len(document)


def _require_distinct(kind: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadRequest(f"{kind} {twice[0]!r} is given twice")

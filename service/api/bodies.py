"""Request bodies to instances and parameters: JSON, raw picture, text or sound, multipart. No codec runs here."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import Receive

from service.codecs.sent import kind_of, sent_instance
from service.errors import BadInput, BadRequest, TooLarge, UnsupportedMediaType
from service.manifest import Input

Fields = Mapping[bytes, bytes]
"""HTTP headers as ASGI has them, names in lower case; of one that is sent twice, the last."""
Instances = list[dict[str, Any]]
"""One dict an instance: value by input name. `bytes` is an encoded picture, sound or text; anything else came as JSON."""

JSON = "application/json"
_UNTYPED = {"", "application/octet-stream", "application/x-www-form-urlencoded"}
_CODECS = {"image": "image", "audio": "audio", "text": "text"}
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image"),
    (b"\xff\xd8\xff", "image"),
    (b"GIF8", "image"),
    (b"BM", "image"),
    (b"II*\x00", "image"),
    (b"MM\x00*", "image"),
    (b"fLaC", "audio"),
)
_FIELDS = {"instances", "inputs", "parameters", "id"}
_LONG = 1 << 20
_TAKES = "application/json, image/*, text/plain, audio/wav, multipart/form-data"


class HungUp(Exception):
    """The client went away before its body was whole: there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    max_bytes: int
    max_instances: int


class Parsed(NamedTuple):
    """`parameters` as sent: strings from query and form, anything from JSON."""

    instances: Instances
    parameters: dict[str, Any]


async def read_body(headers: Fields, receive: Receive, limit: int) -> bytes:
    """The whole body, decompressed. Raises TooLarge as soon as the limit is known to be passed, BadRequest, HungUp."""
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body") or message["type"] != "http.request":
        chunks, size = [body], len(body)
        while message["type"] == "http.request" and message.get("more_body"):
            message = await receive()
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > limit:
                raise _too_large(limit)
        if message["type"] == "http.disconnect":
            raise HungUp
        body = b"".join(chunks)
    if len(body) > limit:
        raise _too_large(limit)
    encoding = headers.get(b"content-encoding", b"")
    return body if encoding in (b"", b"identity") else _decompress(body, encoding.decode("latin-1").strip().lower(), limit)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit} bytes (setting WHYSERVE_MAX_BODY_MIB)")


def _decompress(body: bytes, encoding: str, limit: int) -> bytes:
    windows = {"gzip": 31, "x-gzip": 31, "deflate": 15}
    if encoding not in windows:
        raise UnsupportedMediaType(f"content-encoding {encoding!r}; expected one of: gzip, deflate, identity")
    decompressor = zlib.decompressobj(windows[encoding])
    try:
        plain = decompressor.decompress(body, limit + 1)
    except zlib.error as error:
        raise BadRequest(f"the body is no valid {encoding}: {error}") from None
    if len(plain) > limit:
        raise _too_large(limit)
    if not decompressor.eof:
        raise BadRequest(f"the {encoding} body ends too early")
    return plain


async def parse_body(
    body: bytes, content_type: str, query: Mapping[str, str], inputs: tuple[Input, ...], limits: BodyLimits, *, may_be_none: bool = False
) -> Parsed:
    """Instances and parameters of a request; with `may_be_none` (`:generate`) a request may send no instance.

    Raises BadRequest or BadInput (what is wrong and what was expected), UnsupportedMediaType, TooLarge.
    """
    if not body and may_be_none:
        return Parsed([], dict(query))
    if not body:
        raise BadInput(f"the body is empty; expected {_expected(inputs)}")
    kind = content_type.partition(";")[0].strip().lower()
    if may_be_none and kind in _UNTYPED:
        kind = JSON
    if kind in _UNTYPED:
        return _parse_raw(body, _sniff(body, inputs), query, inputs)
    if kind == JSON or kind.endswith("+json"):
        # A long body is parsed on a thread, so that the others' answers don't wait for it.
        arguments = (body, query, inputs, may_be_none)
        parsed = await asyncio.to_thread(parse_json, *arguments) if len(body) > _LONG else parse_json(*arguments)
    elif kind == "multipart/form-data":
        parsed = await _parse_multipart(body, content_type, query, inputs, limits)
    elif (codec := _CODECS.get(kind.partition("/")[0])) is not None:
        return _parse_raw(body, codec, query, inputs)
    else:
        raise UnsupportedMediaType(f"content-type {kind!r}; expected one of: {_TAKES}")
    if len(parsed.instances) > limits.max_instances:
        raise TooLarge(f"{len(parsed.instances)} instances, at most {limits.max_instances} (setting WHYSERVE_MAX_INSTANCES)")
    return parsed


# ------------------------------------------------------------------------------------------------------------------ json


def parse_json(body: bytes, query: Mapping[str, str], inputs: tuple[Input, ...], may_be_none: bool = False) -> Parsed:
    """`{"instances": [..], "parameters": {..}}`; the body's parameters go before the query's."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is no valid JSON: {error} (NaN and Infinity are no JSON)") from None
    if not isinstance(document, dict):
        raise BadRequest(f'expected a JSON object {{"instances": [..]}}, got {kind_of(document)}')
    if unknown := document.keys() - _FIELDS:
        raise BadRequest(f"unknown field {sorted(unknown)[0]!r}; expected instances (or inputs) and parameters")
    if ("instances" in document) + ("inputs" in document) != 1 and not (may_be_none and "inputs" not in document):
        raise BadRequest('expected either "instances" or "inputs", a list with one entry an instance')
    instances = document.get("instances", document.get("inputs"))
    if may_be_none and not instances:
        instances = []
    elif not isinstance(instances, list) or not instances:
        raise BadRequest(f'"instances": expected a list with at least one entry, got {kind_of(instances)}')
    parameters = document.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise BadRequest(f'"parameters": expected an object, got {kind_of(parameters)}')
    return Parsed([sent_instance(value, inputs) for value in instances], {**query, **parameters})


# ------------------------------------------------------------------------------------------------------------------- raw


def _sniff(body: bytes, inputs: tuple[Input, ...]) -> str:
    """The codec of a body without a type, by its first bytes. Raises UnsupportedMediaType."""
    for magic, codec in _MAGIC:
        if body.startswith(magic):
            return codec
    if body[:4] == b"RIFF" and body[8:12] in (b"WEBP", b"WAVE"):
        return "image" if body[8:12] == b"WEBP" else "audio"
    if body.lstrip()[:1] == b"{":
        return "json"
    if inputs[0].codec == "text":
        return "text"
    raise UnsupportedMediaType(f"the body has no Content-Type, and its first bytes are none that are known; expected {_expected(inputs)}")


def _parse_raw(body: bytes, codec: str, query: Mapping[str, str], inputs: tuple[Input, ...]) -> Parsed:
    """The body is the first input of one instance; the other inputs come from the query by name."""
    if codec == "json":
        return parse_json(body, query, inputs)
    first = inputs[0]
    if codec != first.codec:
        raise UnsupportedMediaType(f"this model's input {first.name!r} is no {codec}; expected {_expected(inputs)}")
    if len(inputs) == 1:
        return Parsed([{first.name: body}], dict(query))
    others = {i.name: i for i in inputs[1:]}
    instance = {first.name: body} | {name: _typed(text, others[name]) for name, text in query.items() if name in others}
    return Parsed([instance], {name: text for name, text in query.items() if name not in others})


def _typed(text: str, declared: Input) -> Any:
    """A value from a query or a form: JSON where it is JSON (a number, a list), else, or for a text, the string itself."""
    if declared.codec == "text":
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _expected(inputs: tuple[Input, ...]) -> str:
    raw = {"image": "a picture (image/png, image/jpeg, ..)", "text": "a text (text/plain)", "audio": "a sound (audio/wav)"}
    first = raw.get(inputs[0].codec)
    return f'{first + " or " if first else ""}JSON {{"instances": [..]}} (application/json) or multipart/form-data'


# ------------------------------------------------------------------------------------------------------------- multipart


async def _parse_multipart(
    body: bytes, content_type: str, query: Mapping[str, str], inputs: tuple[Input, ...], limits: BodyLimits
) -> Parsed:
    """Each file part is an instance; with several inputs, a part named as an input is that input of the one instance."""
    parser = MultiPartParser(
        Headers({"content-type": content_type}),
        _stream(body),
        max_files=limits.max_instances + 1,
        max_fields=100,
        max_part_size=limits.max_bytes,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many"):
            raise TooLarge(f"{error.message} (at most {limits.max_instances} instances, setting WHYSERVE_MAX_INSTANCES)") from None
        raise BadRequest(f"the body is no valid multipart/form-data: {error.message}") from None
    except KeyError:
        raise BadRequest("multipart/form-data needs a boundary in its Content-Type") from None
    names = {i.name: i for i in inputs}
    instances: Instances = []
    one: dict[str, Any] = {}
    parameters: dict[str, Any] = dict(query)
    try:
        for name, part in form.multi_items():
            if isinstance(part, UploadFile):
                target, value = name if name in names else inputs[0].name, await part.read()
            elif name in names:
                target, value = name, _typed(part, names[name])
            else:
                parameters[name] = part
                continue
            if len(inputs) > 1 and name in names:
                one[target] = value
            else:
                instances.append({target: value})
    finally:
        await form.close()
    if one and instances:
        raise BadRequest(f"expected parts named as inputs ({', '.join(sorted(names))}) or files, got both")
    if not one and not instances:
        raise BadInput(f"no part of the form is an instance; expected a file or a part named {inputs[0].name!r}")
    return Parsed([one] if one else instances, parameters)


async def _stream(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body

"""A question to an explainer as it travels: Open Inference V2 `explain` with binary tensors, and what goes by the same road.

Built by whoever asks, or read off a request that is passed on: then the tensors stay the bytes that came.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import orjson

from service.caller import ANYONE, Caller
from service.codecs.v2 import InferRequest, described
from service.errors import BadParameter, BadRequest

LENGTH_HEADER = "Inference-Header-Content-Length"
ROLE_HEADER = "Whyserve-Role"
"""On every answer of a server that explains for others: what else answers at its address can be told from it."""
STALLED_HEADER = "Whyserve-Stalled"
"""Of a process's readiness: seconds since the last step of the computation whose last one is longest ago, 0 when idle."""
REFUSED_HEADER = "Whyserve-Refused"
"""On the 503 of an explainer whose line is full: of what, as the metrics name it. What else is unavailable has none."""
SPARING = "attributions_only"
"""Parameter of `explain`: true for an answer whose tensors are attributions alone, by who reads the numbers off `explanations`."""
_ALIGNMENT = 8
"""The JSON header is padded with spaces to a multiple of it: tensors are read in place."""

CALLER_HEADER, INTERACTIVE_HEADER, ERRAND_HEADER = "Whyserve-Caller", "Whyserve-Interactive", "Whyserve-Errand"
"""The fingerprint of the key that a predictor was asked with (empty: none was needed), `Caller.interactive`, `Caller.errand`."""
_FINGERPRINT, _ERRAND = re.compile(rb"([0-9a-f]{64})?"), re.compile(rb"[0-9a-f]{0,64}")

Kind = Literal["status", "explain", "study"]


@dataclass(frozen=True, slots=True)
class Reply:
    """The body of an explainer's answer and, where tensors follow its JSON header, that header's length."""

    content: bytes | bytearray
    header_length: int | None = None

    @property
    def media_type(self) -> str:
        return "application/json" if self.header_length is None else "application/octet-stream"


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """`header` is the JSON header, whose timeout follows from `deadline`; `blobs` the tensors behind it. `operation` is a study's."""

    kind: Kind
    model: str
    version: int
    deadline: float
    """Of `time.monotonic`."""
    header: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    blobs: bytes | memoryview = b""
    operation: str = ""
    caller: Caller = ANYONE

    @property
    def verb(self) -> str:
        return "GET" if self.kind == "status" else "POST"

    @property
    def path(self) -> str:
        tail = {"status": "", "explain": "/explain", "study": f"/study/{self.operation}"}[self.kind]
        return f"/v2/models/{self.model}/versions/{self.version}{tail}"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """V2's: `method` or a study's own `parameters`, `model_sha256`, .."""
        found: Mapping[str, Any] = self.header.get("parameters", {})
        return found

    @property
    def method(self) -> str:
        """The method or the operation, the empty text where the model's default is meant."""
        return self.operation or str(self.parameters.get("method", ""))

    @property
    def instances(self) -> int:
        """Rows sent, as the first tensor's shape says."""
        tensors = self.header.get("inputs") or ()
        return int(tensors[0]["shape"][0]) if tensors and tensors[0]["shape"] else 1

    @property
    def left(self) -> float:
        """Seconds to the deadline, negative beyond it."""
        return self.deadline - time.monotonic()

    @property
    def sender(self) -> dict[str, str]:
        """Who asks, as HTTP headers: the line stands where the processes are, and shares and priorities with it."""
        named = {} if not self.caller.request else {"X-Request-Id": self.caller.request}
        interactive = str(self.caller.interactive).lower()
        return {CALLER_HEADER: self.caller.key, INTERACTIVE_HEADER: interactive, ERRAND_HEADER: self.caller.errand, **named}

    def encode(self) -> tuple[tuple[bytes | memoryview, ...], int | None]:
        """The body, in parts, with the time that is left now as its `timeout`; and its header's length where tensors follow."""
        if self.kind == "status":
            return (), None
        parameters = {**self.parameters, "timeout": max(1, int(self.left * 1e6))}
        if self.kind == "study" and not self.header.get("inputs"):
            return (orjson.dumps(parameters),), None  # V2 knows no request without tensors
        document = orjson.dumps({**self.header, "parameters": parameters})
        if not len(self.blobs):
            return (document,), None
        document += b" " * (-len(document) % _ALIGNMENT)
        return (document, self.blobs), len(document)


def message_of(
    kind: Kind,
    model: str,
    version: int,
    deadline: float,
    request: InferRequest | None = None,
    operation: str = "",
    caller: Caller = ANYONE,
) -> Message:
    """The message for tensors and parameters as they are here."""
    if request is None or not request.inputs:
        parameters = {} if request is None else request.parameters
        return Message(kind, model, version, deadline, {"parameters": parameters}, operation=operation, caller=caller)
    header, blobs = described(request)
    whole = blobs[0] if len(blobs) == 1 else b"".join(blobs)
    return Message(kind, model, version, deadline, _untimed(header), whole, operation, caller)


def message_from(
    body: bytes,
    header_length: int | None,
    kind: Kind,
    model: str,
    version: int,
    longest: float,
    operation: str = "",
    caller: Caller = ANYONE,
) -> Message:
    """The message of a request that came over HTTP, due `timeout` microseconds from now, at most `longest` seconds.

    Only the JSON header is read: what the tensors are worth is the explainer's to say. Raises BadRequest, BadParameter.
    """
    header, blobs = _split(body, header_length)
    if kind == "study" and header_length is None and "inputs" not in header:
        header = {"parameters": header}
    if kind == "study" and header_length is None and "inputs" in header:
        raise BadRequest("a study takes its tensors as binary data (Inference-Header-Content-Length)")
    parameters = header.get("parameters", {})
    if not isinstance(parameters, dict):
        raise BadRequest("the request's parameters: expected a JSON object")
    if kind == "study" and not {"parameters", "model_sha256"} <= parameters.keys():
        raise BadRequest("a study needs the parameters 'parameters' (JSON text) and 'model_sha256'")
    seconds = _seconds(parameters.get("timeout"), longest)
    _require_shapes(header.get("inputs", []))
    return Message(kind, model, version, time.monotonic() + seconds, _untimed(header), blobs, operation, caller)


def caller_from(headers: Mapping[bytes, bytes], sender: Caller) -> Caller:
    """For whom a predictor asks, where it says so; else `sender`, whose key the request came with. Raises BadRequest.

    Only who has a key of this server's can say so: its keys are the predictors'.
    """
    key = headers.get(CALLER_HEADER.lower().encode())
    if key is None:
        return sender
    interactive = headers.get(INTERACTIVE_HEADER.lower().encode(), b"true")
    errand = headers.get(ERRAND_HEADER.lower().encode(), b"")
    if not _FINGERPRINT.fullmatch(key) or interactive not in (b"true", b"false") or not _ERRAND.fullmatch(errand):
        raise BadRequest(
            f"{CALLER_HEADER}: expected a SHA-256 in hexadecimal or nothing; {INTERACTIVE_HEADER}: true or false; "
            f"{ERRAND_HEADER}: at most 64 hexadecimal digits"
        )
    return Caller(key.decode(), interactive == b"true", sender.request, errand.decode())


def _split(body: bytes, header_length: int | None) -> tuple[dict[str, Any], memoryview]:
    view = memoryview(body)
    length = len(view) if header_length is None else header_length
    if not 0 < length <= len(view):
        raise BadRequest(f"expected a JSON header of {LENGTH_HEADER} bytes, got {length} for a body of {len(view)} bytes")
    try:
        header = orjson.loads(view[:length])
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the request's header isn't valid JSON: {error}") from None
    if not isinstance(header, dict):
        raise BadRequest("the request's header: expected a JSON object")
    return header, view[length:]


def _untimed(header: dict[str, Any]) -> dict[str, Any]:
    """The header without its timeout, which is the message's deadline from here on: the same question has the same header."""
    parameters = {name: value for name, value in header.get("parameters", {}).items() if name != "timeout"}
    return {**header, "parameters": parameters}


def _seconds(microseconds: Any, longest: float) -> float:
    if microseconds is None:
        return longest
    if isinstance(microseconds, bool) or not isinstance(microseconds, int | float) or not microseconds > 0:
        raise BadParameter(f"parameter 'timeout': expected microseconds, a number above 0, got {microseconds!r}"[:200])
    if microseconds / 1e6 > longest:
        most = f"{longest:g} seconds (the longer of WHYSERVE_TIMEOUT and WHYSERVE_ASYNC_TIMEOUT)"
        raise BadParameter(f"parameter 'timeout': expected at most {most}, got {microseconds / 1e6:g}")
    return microseconds / 1e6


def _require_shapes(inputs: Any) -> None:
    """What `Message.instances` reads must be there; everything else is checked where the tensors are."""
    if not isinstance(inputs, list) or not all(isinstance(tensor, dict) and _is_shape(tensor.get("shape")) for tensor in inputs):
        raise BadRequest("the request's inputs: expected a list of objects, each with a shape")


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, list) and all(isinstance(size, int) and size >= 0 for size in shape)

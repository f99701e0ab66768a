"""What the server asks of explainers, wherever they are: values to messages, answers to values. Imports no torch."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from service.caller import ANYONE, Caller
from service.codecs.v2 import InferRequest, decode_response
from service.explain.answer import Explanation, decode
from service.explain.layers.studied import Operation, Studied
from service.explain.layers.studied import decode as decode_studied
from service.explain.message import SPARING, Message, Reply, message_of
from service.explain.methods import ExplainRequest, to_wire
from service.explain.methods.request import companions
from service.explain.status import TwinStatus


class Explainers(ABC):
    """Explains, studies, and says what is known of a twin; a subclass carries the messages. `timeout` in seconds."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout

    @abstractmethod
    async def start(self) -> None:
        """Makes ready, and returns at once."""

    @abstractmethod
    async def stop(self) -> None:
        """Ends what `start` began; explanations that still run are lost."""

    @abstractmethod
    async def carry(self, message: Message) -> Reply:
        """An explainer's answer. Cancelling this cancels the computing.

        Raises what the explainer raised, DeadlineExceeded, NotExplainable, and Unavailable where none can be had.
        """

    async def explain(
        self,
        model: str,
        version: int,
        tensors: Mapping[str, NDArray[Any]],
        request: ExplainRequest,
        sha256: str | None = None,
        caller: Caller = ANYONE,
    ) -> list[Explanation]:
        """One explanation a row of `tensors` (n, ..), by graph input, of the model file with that hash (None: whichever is there).

        Raises what the explainer raises (BadParameter, ParityRefused, NotExplainable, DeadlineExceeded, ..), and what `carry`
        raises. Cancelling this cancels the computing.
        """
        deadline = time.monotonic() + request.timeout
        wire: dict[str, Any] = to_wire(request) | {SPARING: True} | ({} if sha256 is None else {"model_sha256": sha256})
        asked = _request(dict(tensors) | companions(request), wire)
        reply = await self.carry(message_of("explain", model, version, deadline, asked, caller=caller))
        return list(decode(decode_response(reply.content, reply.header_length)).explanations)

    async def study(
        self,
        operation: Operation,
        model: str,
        version: int,
        sha256: str,
        tensors: Mapping[str, NDArray[Any]],
        parameters: Mapping[str, Any],
        seconds: float | None = None,
        caller: Caller = ANYONE,
    ) -> Studied:
        """What an operation on the model's layers finds for rows `tensors` (n, ..), within so many seconds.

        `parameters` are JSON values. Raises what the explainer and `carry` raise. Cancelling this cancels the computing.
        """
        deadline = time.monotonic() + (self._timeout if seconds is None else seconds)
        asked = _request(tensors, {"parameters": orjson.dumps(dict(parameters)).decode(), "model_sha256": sha256})
        reply = await self.carry(message_of("study", model, version, deadline, asked, operation, caller))
        return decode_studied(decode_response(reply.content, reply.header_length))

    async def status(self, model: str, version: int) -> TwinStatus:
        """What is known of a model's twin; builds it where nobody has asked for it yet. Raises what `carry` raises."""
        reply = await self.carry(message_of("status", model, version, time.monotonic() + self._timeout))
        return TwinStatus.model_validate(orjson.loads(reply.content)["twin"])


def _request(tensors: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> InferRequest:
    inputs = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    return InferRequest(inputs, parameters=dict(parameters), binary_default=True)

"""Explainers on another server (`--role explainer`), asked over HTTP by the same messages as the processes here. Imports no torch."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from service.engine.precedence import Precedence
from service.errors import NotFound, Overloaded, Unavailable
from service.explain.address import HostPort
from service.explain.client import Client, Unconnected
from service.explain.connection import Answered
from service.explain.endpoint import Endpoint, Lost, error_of, reply_of
from service.explain.explainers import Explainers
from service.explain.line import Line
from service.explain.message import REFUSED_HEADER, ROLE_HEADER, Message, Reply

log = logging.getLogger("whyserve.explain")
CONNECT = 1.0
"""Seconds to be connected: nobody shall wait long for a server that isn't there."""
_SETTING = "setting WHYSERVE_EXPLAINER_URL"


class Forwarder(Explainers):
    """Sends each message to `url`, at most `most` of them at once, of one API key at most the part `share`, with `key` where the
    explainer wants one.

    How much work waits, and when to come back, only the explainer knows, whose line all predictors share: its 503 and 429 pass
    through with their Retry-After. Here no key may take the places of all others, nor those nobody waits for all places.

    It doesn't bound by estimated work, and rather sends tensors to be refused there. All that it could learn from is how fast answers
    come to what it asks, and that says how much was asked and not how much could be done: after an hour of one question at a time eight
    idle replicas look like one, and of a burst that they could do it would refuse most. An explainer's refusal says nothing of
    the replica beside it, nor of a message with more time, of another key or of another priority.

    Each message has a connection of its own: behind one address there may be several replicas, and a connection that is kept
    would stay with one of them. An explanation costs far more than a connection.
    """

    def __init__(self, url: str, key: str | None, *, most: int, share: float, timeout: float, precedence: Precedence) -> None:
        super().__init__(timeout)
        self._url = url
        self._headers = {} if key is None else {"x-api-key": key}
        self._line = Line(most, share, 1, time.monotonic)
        self._precedence = precedence
        self._endpoint: Endpoint | None = None
        self._stopped = False

    async def start(self) -> None:
        self._connected()

    async def stop(self) -> None:
        self._stopped = True
        if self._endpoint is not None:
            self._endpoint.client.close()

    async def carry(self, message: Message) -> Reply:
        """The explainer's answer; asked once more where the connection is lost before it has answered."""
        if self._stopped:
            raise Unavailable("the server is stopping")
        with self._place(message):
            return await self._asked(self._connected(), message)

    async def _asked(self, endpoint: Endpoint, message: Message) -> Reply:
        for _ in range(2):
            try:
                answer = await endpoint.send(message)
            except Lost as lost:
                log.warning("explainer at %s: %r", self._url, lost.__cause__)
                if isinstance(lost.__cause__, Unconnected):
                    break  # it would take as long again
            else:
                await self._precedence.turn()
                return self._reply(answer)
        raise Unavailable(f"the explainer can't be reached ({_SETTING})")

    def _reply(self, answer: Answered) -> Reply:
        """Raises the error that was answered, and Unavailable for what is this server's trouble with the explainer."""
        if answer.status in (401, 403):
            raise Unavailable("the explainer doesn't take this server's key (setting WHYSERVE_EXPLAINER_KEY)", 5)
        if answer.headers.get(ROLE_HEADER.lower()) != "explainer":
            log.error("explainer at %s: status %d, no explainer's answer: %.200r", self._url, answer.status, answer.content)
            raise Unavailable(f"no explainer answers at the address given for one ({_SETTING}), status {answer.status}", 5)
        if answer.status == 200:
            return reply_of(answer)
        error = error_of(answer)
        if isinstance(error, NotFound):
            raise Unavailable(f"the explainer hasn't this model: {error}", 5)
        if isinstance(error, Unavailable) and (reason := answer.headers.get(REFUSED_HEADER.lower())) is not None:
            raise Overloaded(error.message, error.retry_after or 1, reason)
        raise error

    @contextmanager
    def _place(self, message: Message) -> Iterator[None]:
        ticket = self._line.enter(message.caller, 0.0, message.deadline)
        try:
            yield
        finally:
            self._line.leave(ticket, done=False)

    def _connected(self) -> Endpoint:
        if self._endpoint is None:
            self._endpoint = Endpoint(Client(HostPort.of_url(self._url), self._headers, connect=CONNECT))
        return self._endpoint

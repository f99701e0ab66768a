"""Where an explainer answers, a process's Unix socket or another server: one message there, its reply back. Imports no torch."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import orjson

from service.errors import BadRequest, DeadlineExceeded, ShareUsedUp, Unavailable, WhyserveError
from service.explain.client import Client
from service.explain.connection import Answered, Broken
from service.explain.message import LENGTH_HEADER, Message, Reply

GRACE = 0.5
"""Seconds that an explainer has beyond the deadline to say so itself."""


class Lost(Exception):
    """The explainer died, or closed its connection, before it had answered."""


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """`client` knows the address, how long connections are kept, and the headers that every message carries."""

    client: Client

    async def ask(self, message: Message, grace: float = GRACE) -> Reply:
        """Raises Lost, DeadlineExceeded, and the error that was answered."""
        answer = await self.send(message, grace)
        if answer.status != 200:
            raise error_of(answer)
        return reply_of(answer)

    async def send(self, message: Message, grace: float = GRACE) -> Answered:
        """The answer whatever its status, `grace` seconds after the deadline at the latest.

        Raises Lost (its cause is Broken) and DeadlineExceeded.
        """
        body, length = message.encode()
        headers = message.sender | ({} if length is None else {LENGTH_HEADER: str(length)})
        try:
            async with asyncio.timeout(max(message.left + grace, 0.01)):
                return await self.client.request(message.verb, message.path, headers, body)
        except TimeoutError:
            raise DeadlineExceeded("no explanation in time (parameter 'timeout')") from None
        except Broken as broken:
            raise Lost from broken


def reply_of(answer: Answered) -> Reply:
    length = answer.headers.get(LENGTH_HEADER.lower())
    return Reply(answer.content, None if length is None else int(length))


def error_of(answer: Answered) -> WhyserveError:
    """The error class that the explainer's code word names, with its message."""
    try:
        found = orjson.loads(answer.content)
        code, message = str(found["code"]), str(found["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return WhyserveError(f"an explainer answered with status {answer.status}")
    classes: list[type[WhyserveError]] = [WhyserveError]
    for known in classes:
        classes += known.__subclasses__()
    by_code = {known.code: known for known in reversed(classes)}  # the most general class of a code takes a message alone
    kind = by_code.get(code, BadRequest if answer.status == 400 else WhyserveError)
    if kind in (Unavailable, ShareUsedUp):
        after = answer.headers.get("retry-after", "1")
        return kind(message, int(after) if after.isdigit() else 1)
    return kind(message)

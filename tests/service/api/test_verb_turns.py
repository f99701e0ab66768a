"""A verb that explains waits for its turn, one that predicts says that it is there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from service.api.answers import Answer
from service.api.bodies import BodyLimits
from service.api.verbs import Call, Operation, Verb
from service.caller import ANYONE
from service.engine.precedence import Precedence
from service.telemetry import Metrics

if TYPE_CHECKING:
    from service.repository.registry import Registry


def ask(operation: Operation, precedence: Precedence, seen: list[str]) -> Coroutine[Any, Any, None]:
    """One request to a verb of that operation, over ASGI."""
    model = SimpleNamespace(inflight=Counter(), series=Metrics().series("any", 1))
    registry = cast("Registry", SimpleNamespace(model=lambda *_: model))

    async def handle(_: Call) -> Answer:
        seen.append(operation)
        return Answer(b"{}")

    async def receive() -> Any:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(_: Any) -> None:
        seen.append(f"{operation} answered")

    scope = {
        "type": "http",
        "path_params": {"name": "any"},
        "query_string": b"",
        "state": {"fields": {b"content-length": b"2"}, "request_id": "", "caller": ANYONE},
    }
    return Verb(registry, precedence, operation, BodyLimits(100, 1), handle)(scope, receive, send)


@pytest.mark.parametrize("operation", ["explain", "activations", "explain-layer", "visualise"])
async def test_what_is_explained_waits_until_no_prediction_is_at_hand(operation: Operation, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.engine.precedence.PATIENCE", 60)
    precedence, seen = Precedence(), list[str]()
    explaining = asyncio.create_task(ask(operation, precedence, seen))
    for _ in range(20):
        await ask("predict", precedence, seen)
        await ask("generate", precedence, seen)
        await asyncio.sleep(0)
    assert operation not in seen
    assert seen.count("predict") == seen.count("generate") == 20
    await explaining
    assert operation in seen

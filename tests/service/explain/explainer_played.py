"""An explainer process whose models do what their names say, on command: the worker and how it yields are the real ones."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time

import uvicorn

from service.errors import NotFound
from service.explain.cancel import Token
from service.explain.isolation import yield_to_server
from service.explain.lane import Lane

LONG = 2.0
"""Seconds that `goes-on` takes; its steps come far more often."""
WORK = 0.3
"""Seconds of a processor that `computes` takes, in one step."""


class Shelf:
    def get(self, name: str, version: int, sha256: str | None, token: Token) -> None:
        {
            "spins": _spin,
            "spins-in-c": lambda: all(itertools.repeat(True)),  # nobody else gets the interpreter's lock
            "waits": lambda: threading.Event().wait(),
            "goes-on": lambda: _go_on(token),
            "computes": _compute,
        }[name]()
        raise NotFound(f"{name}: done")


def _spin() -> None:
    while True:
        pass


def _go_on(token: Token) -> None:
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        token.check()
        time.sleep(0.05)


def _compute() -> None:
    end = time.thread_time() + WORK
    while time.thread_time() < end:
        pass


if __name__ == "__main__":
    yield_to_server(os.getppid())
    from service.explain.worker import Worker

    app = Worker(Shelf(), Lane(), 2**20, 60).app()  # type: ignore[arg-type]
    uvicorn.run(app, uds=sys.argv[1], lifespan="off", log_level="error")

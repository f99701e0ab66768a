"""The server, with one more route: FastAPI's own way to read a body and answer a constant, what `:predict` is measured against."""

from __future__ import annotations

import sys

from fastapi import FastAPI, Request

import service.server
from service.app import create_app
from service.cli import main
from service.settings import Settings


def create_with_constant(settings: Settings, *arguments: object, **options: object) -> FastAPI:
    """The service's app with the route `/constant`."""
    app = create_app(settings, *arguments, **options)  # type: ignore[arg-type]

    @app.post("/constant")
    async def constant(request: Request) -> dict[str, str]:
        await request.body()
        return {"answer": "constant"}

    return app


if __name__ == "__main__":
    service.server.create_app = create_with_constant  # the same process, loop and middleware, one route more
    sys.exit(main())

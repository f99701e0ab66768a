"""The least an HTTP server can do under the service's own uvicorn: a plain ASGI app that reads the body and answers a constant."""

from __future__ import annotations

import sys

import uvicorn
from starlette.types import Receive, Scope, Send

from service.server import configure

_ANSWER = b'{"answer":"constant"}'


async def constant(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(_ANSWER)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _ANSWER})


if __name__ == "__main__":
    config = configure(constant, timeout=60)
    config.host, config.port, config.lifespan = "127.0.0.1", int(sys.argv[1]), "off"
    uvicorn.Server(config).run()

"""Runs the app under uvicorn, and stops it so that no request is lost."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from service.api.edge import Draining
from service.app import create_app
from service.joined import JoinedProtocol
from service.repository.registry import Registry
from service.settings import BadSetting, Settings

log = logging.getLogger("whyserve")

_YOUNG = 20_000
"""Objects more made than freed until the collector looks for cycles among them. A request leaves none behind; at Python's own
700 the collector walked through what 20 requests under way hold, at each 20th request, a tenth of the server's time."""


class Server(uvicorn.Server):
    """On SIGTERM readiness turns 503 at once, requests are served for a grace period, running ones finish, exit is 0.

    SIGINT, and a second signal, skip the grace period.
    """

    def __init__(self, config: uvicorn.Config, draining: Draining, grace: float) -> None:
        super().__init__(config)
        self._draining = draining
        self._grace = grace

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # uvicorn's signature
        # uvicorn's own would also note the signal and raise it again at the end: the exit status would not be 0.
        if sig != signal.SIGTERM or self._draining.started:
            self.should_exit = True
        self._draining.started = True
        if not self.should_exit:
            log.info("stopping: no longer ready, serving for %g s more", self._grace)
            loop = asyncio.get_running_loop()
            loop.call_soon_threadsafe(loop.call_later, self._grace, self._leave)  # a signal may come while the loop sleeps

    def _leave(self) -> None:
        self.should_exit = True


def run(settings: Settings) -> int:
    """Serves until a signal; the exit status. Raises what `create_app` raises, BadSetting where the port is taken."""
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    draining = Draining()
    listening = _listen(settings.host, settings.port)

    def announce(registry: Registry) -> None:
        gc.collect()
        gc.freeze()  # what is loaded now stays: later collections needn't walk through it while requests wait
        gc.set_threshold(_YOUNG)
        print(_announcement(settings, listening.getsockname()[1], registry), flush=True)

    config = configure(create_app(settings, draining, announce), settings.timeout)
    Server(config, draining, settings.grace).run([listening])
    return 0


def configure(app: ASGIApp, timeout: float) -> uvicorn.Config:
    """uvicorn as the service runs it; `timeout` are the seconds that a request may take at most."""
    return uvicorn.Config(
        app,
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        http=JoinedProtocol,
        lifespan="on",
        access_log=False,
        server_header=False,
        date_header=False,
        log_level="warning",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(timeout) + 1,
    )


def _listen(host: str, port: int) -> socket.socket:
    """The listening socket. Made here and not by uvicorn, which would log a busy port and exit in words of its own."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]  # Python repeats the address in brackets
        raise BadSetting(f"can't listen on {host} port {port}: {reason}") from None


def _announcement(settings: Settings, port: int, registry: Registry) -> str:
    """The URL, what is served, and a curl line that works."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{port}"
    entries = sorted(registry, key=lambda entry: entry.location.name)
    lines = [f"  {e.location.name}/{e.location.version}" + (f"  refused: {e.reason}" if e.reason else "") for e in entries]
    sample = next((path for e in entries if e.model and (path := e.location.folder / "sample.png").is_file()), None)
    if sample is not None:
        name = sample.parent.parent.name
        lines += ["", f"  curl --data-binary @{sample} {url}/v1/models/{name}:predict"]
        lines += [f"  curl --data-binary @{sample} -H 'Accept: image/png' -o why.png {url}/v1/models/{name}:explain"]
    return "\n".join([f"whyserve on {url} (documentation: {url}/docs)", *lines])

"""The explainer processes as the server sees them: started, watched, replaced, and asked. Imports no torch.

One mechanism for local and remote: an explainer answers V2 `explain` with binary tensors; here over a Unix socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

import service
from service.codecs.v2 import InferRequest, decode_response, encode_request
from service.errors import DeadlineExceeded, NotExplainable, Unavailable
from service.explain.answer import Explanation, decode
from service.explain.layers.studied import Operation, Studied
from service.explain.layers.studied import decode as decode_studied
from service.explain.methods import ExplainRequest, to_wire
from service.explain.methods.request import companions
from service.explain.remote import LENGTH_HEADER, Explainer, Lost, started
from service.explain.status import TwinStatus
from service.settings import Settings

log = logging.getLogger("whyserve.explain")
Result = TypeVar("Result")
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
"""Seconds before a process that died is replaced; doubled each time it dies young."""
GRACE = 0.5
"""Seconds that an explainer has beyond the deadline to say so itself."""

__all__ = ["Explanation", "Pool"]


class Pool:
    """`processes` explainers for a model repository; `start` once the server is ready, `stop` at its end.

    At most `queue` explanations wait or run at once. An explanation asked for while explainers start waits within its time.
    """

    def __init__(
        self,
        models: Path,
        model_name: str | None = None,
        *,
        processes: int = 1,
        queue: int = 64,
        memory_mib: int = 2048,
        timeout: float = 60.0,
    ) -> None:
        self._arguments = ["--models", str(models), "--memory-mib", str(memory_mib), "--max-timeout", str(timeout)]
        self._arguments += [] if model_name is None else ["--model-name", model_name]
        self._processes = processes
        self._queue = queue
        self._timeout = timeout
        self._pending = 0
        self._idle: asyncio.Queue[Explainer] = asyncio.Queue()
        self._watchers: list[asyncio.Task[None]] = []
        self._folder: Path | None = None
        self._stopped = False

    @classmethod
    def of(cls, settings: Settings) -> Pool:
        return cls(
            settings.models,
            settings.model_name,
            processes=settings.explainers,
            queue=settings.explainer_queue,
            memory_mib=settings.explainer_memory_mib,
            timeout=settings.timeout,
        )

    async def start(self) -> None:
        """Starts the processes and returns at once."""
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs a line a request
        if not _has_torch():
            log.warning("torch, captum and onnx are not installed (extra 'explain'): predictions only")
            return
        self._folder = Path(tempfile.mkdtemp(prefix="whyserve-"))  # short: a socket's path has about 100 characters
        self._watchers = [asyncio.create_task(self._keep(self._folder / f"{i}.sock")) for i in range(self._processes)]

    async def stop(self) -> None:
        """Ends the processes; explanations that still run are lost."""
        self._stopped = True
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        self._watchers = []
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def pending(self) -> int:
        """Explanations that wait or run."""
        return self._pending

    async def explain(
        self,
        model: str,
        version: int,
        tensors: Mapping[str, NDArray[Any]],
        request: ExplainRequest,
        sha256: str | None = None,
    ) -> list[Explanation]:
        """One explanation a row of `tensors` (n, ..), by graph input, of the model file with that hash (None: whichever is there).

        Raises what the explainer raises (BadParameter, ParityRefused, NotExplainable, DeadlineExceeded, ..), and Unavailable
        where the queue is full or explainers are lost. Cancelling this cancels the computing.
        """
        deadline = time.monotonic() + request.timeout

        async def ask(explainer: Explainer) -> list[Explanation]:
            left = deadline - time.monotonic()
            wire: dict[str, Any] = to_wire(request) | {"timeout": max(1, int(left * 1e6))}
            if sha256 is not None:
                wire["model_sha256"] = sha256
            inputs = {name: np.ascontiguousarray(array) for name, array in (dict(tensors) | companions(request)).items()}
            body, length = encode_request(InferRequest(inputs, parameters=wire, binary_default=True))
            headers = {} if length is None else {LENGTH_HEADER: str(length)}
            content, found = await explainer.ask("POST", f"{_path(model, version)}/explain", left + GRACE, body, headers)
            return list(decode(decode_response(content, found)).explanations)

        return await self._served(ask, deadline)

    async def study(
        self,
        operation: Operation,
        model: str,
        version: int,
        sha256: str,
        tensors: Mapping[str, NDArray[Any]],
        parameters: Mapping[str, Any],
        seconds: float | None = None,
    ) -> Studied:
        """What an operation on the model's layers finds for rows `tensors` (n, ..), within so many seconds.

        `parameters` are JSON values. Raises what the explainer raises, and Unavailable. Cancelling this cancels the computing.
        """
        deadline = time.monotonic() + (self._timeout if seconds is None else seconds)

        async def ask(explainer: Explainer) -> Studied:
            left = deadline - time.monotonic()
            wire: dict[str, Any] = {
                "parameters": orjson.dumps(dict(parameters)).decode(),
                "timeout": max(1, int(left * 1e6)),
                "model_sha256": sha256,
            }
            inputs = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
            request = InferRequest(inputs, parameters=wire, binary_default=True)
            body, length = encode_request(request) if inputs else (orjson.dumps(wire), None)
            headers = {} if length is None else {LENGTH_HEADER: str(length)}
            content, found = await explainer.ask("POST", f"{_path(model, version)}/study/{operation}", left + GRACE, body, headers)
            return decode_studied(decode_response(content, found))

        return await self._served(ask, deadline)

    async def status(self, model: str, version: int) -> TwinStatus:
        """What is known of a model's twin; builds it where nobody has asked for it yet. Raises Unavailable."""
        deadline = time.monotonic() + self._timeout

        async def ask(explainer: Explainer) -> TwinStatus:
            content, _ = await explainer.ask("GET", _path(model, version), deadline - time.monotonic() + GRACE)
            return TwinStatus.model_validate(orjson.loads(content)["twin"])

        return await self._served(ask, deadline)

    # ------------------------------------------------------------------------------------------------- asking one

    async def _served(self, ask: Callable[[Explainer], Awaitable[Result]], deadline: float) -> Result:
        """What an explainer answers; asked of a second one where the first is lost on the way."""
        if not _has_torch():
            raise NotExplainable("this server can't explain: the extra 'explain' isn't installed")
        if self._stopped:
            raise Unavailable("the server is stopping")
        with self._place():
            for _ in range(2):
                explainer = await self._next(deadline)
                try:
                    return await ask(explainer)
                except Lost:
                    log.warning("an explainer was lost while it explained")
                    explainer.discard()
                finally:
                    self._idle.put_nowait(explainer)
        raise Unavailable("the explainer died twice on this request")

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        if self._pending >= self._queue:
            raise Unavailable(f"{self._queue} explanations wait or run already (setting WHYSERVE_EXPLAINER_QUEUE)")
        self._pending += 1
        try:
            yield
        finally:
            self._pending -= 1

    async def _next(self, deadline: float) -> Explainer:
        """An explainer that lives and has nothing to do."""
        while True:
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
                    explainer = await self._idle.get()
            except TimeoutError:
                raise DeadlineExceeded("no explainer was free in time (parameter 'timeout')") from None
            if explainer.alive:
                return explainer

    # ---------------------------------------------------------------------------------------------- keeping them alive

    async def _keep(self, socket: Path) -> None:
        """Runs one process after the other, until cancelled."""
        delay = FIRST_DELAY
        while True:
            started = time.monotonic()
            try:
                await self._run_one(socket)
            except Exception:
                log.exception("an explainer couldn't be started")
            delay = FIRST_DELAY if time.monotonic() - started > LONGEST_DELAY else min(2 * delay, LONGEST_DELAY)
            log.warning("an explainer ended; the next one starts in %.1f s", delay)
            await asyncio.sleep(delay)

    async def _run_one(self, socket: Path) -> None:
        command = [sys.executable, "-m", "service.explain.worker", "--socket", str(socket), "--parent", str(os.getpid()), *self._arguments]
        async with started(command, socket, _environment(socket.parent)) as explainer:
            if explainer is not None:
                self._idle.put_nowait(explainer)
                await explainer.process.wait()


def _path(model: str, version: int) -> str:
    return f"/v2/models/{model}/versions/{version}"


def _environment(folder: Path) -> dict[str, str]:
    """The server's, without its settings (keys among them), and with what keeps torch and matplotlib small."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("WHYSERVE_")}
    root = str(Path(service.__file__).parent.parent)
    paths = os.pathsep.join(filter(None, (root, own.get("PYTHONPATH"))))
    return own | {
        "PYTHONPATH": paths,
        "MPLCONFIGDIR": str(folder),
        "MALLOC_ARENA_MAX": "2",
        "MALLOC_TRIM_THRESHOLD_": "1048576",
        "OMP_NUM_THREADS": "1",
    }


def _has_torch() -> bool:
    return all(importlib.util.find_spec(name) for name in ("torch", "captum", "onnx"))

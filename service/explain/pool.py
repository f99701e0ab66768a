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
from collections.abc import Iterator
from pathlib import Path

import service
from service.errors import DeadlineExceeded, NotExplainable, Unavailable
from service.explain.endpoint import Lost
from service.explain.explainers import Explainers
from service.explain.message import Message, Reply
from service.explain.remote import Explainer, started
from service.settings import Settings

log = logging.getLogger("whyserve.explain")
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
"""Seconds before a process that died is replaced; doubled each time it dies young."""


class Pool(Explainers):
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
        super().__init__(timeout)
        self._arguments = ["--models", str(models), "--memory-mib", str(memory_mib), "--max-timeout", str(timeout)]
        self._arguments += [] if model_name is None else ["--model-name", model_name]
        self._processes = processes
        self._queue = queue
        self._pending = 0
        self._idle: asyncio.Queue[Explainer] = asyncio.Queue()
        self._watchers: list[asyncio.Task[None]] = []
        self._folder: Path | None = None
        self._up: set[Explainer] = set()
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
        if not has_torch():
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
    def ready(self) -> bool:
        """Whether an explainer answers."""
        return any(explainer.alive for explainer in self._up)

    @property
    def pending(self) -> int:
        """Explanations that wait or run."""
        return self._pending

    # ------------------------------------------------------------------------------------------------- asking one

    async def carry(self, message: Message) -> Reply:
        """What an explainer answers; asked of a second one where the first is lost on the way."""
        if not has_torch():
            raise NotExplainable("this server can't explain: the extra 'explain' isn't installed")
        if self._stopped:
            raise Unavailable("the server is stopping")
        with self._place():
            for _ in range(2):
                explainer = await self._next(message.deadline)
                try:
                    return await explainer.endpoint.ask(message)
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
                self._up.add(explainer)
                self._idle.put_nowait(explainer)
                try:
                    await explainer.process.wait()
                finally:
                    self._up.discard(explainer)


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


def has_torch() -> bool:
    """Whether this installation can explain."""
    return all(importlib.util.find_spec(name) for name in ("torch", "captum", "onnx"))

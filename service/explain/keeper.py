"""Keeps one explainer process alive: started, watched for hanging and for its memory, replaced. Imports no torch.

asyncio's subprocesses and psutil carry it: supervisors (supervisord, circus, honcho) want to be the parent of the server.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import service
from service.explain.remote import End, Explainer, started

log = logging.getLogger("whyserve.explain")
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
"""Seconds before a process is replaced that died young, as the one before it did; doubled each time. The first is replaced at once."""
FAR_BEYOND = 1.25
"""Times its memory budget: there it is killed, whatever it does."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """`memory` bytes beyond what a process holds when it is ready; `stall` seconds, by its own clock, without progress; a `look`
    so often."""

    memory: int
    stall: float = 30.0
    look: float = 1.0


class Keeper:
    """One process after the other; `up` is told of each that answers, and `replaced` why each has ended that is replaced."""

    def __init__(
        self, socket: Path, arguments: Sequence[str], bounds: Bounds, up: Callable[[Explainer], None], replaced: Callable[[End], None]
    ) -> None:
        self._socket = socket
        own = ["--socket", str(socket), "--parent", str(os.getpid())]
        self._command = [sys.executable, "-m", "service.explain.process", *own, *arguments]
        self._bounds = bounds
        self._up = up
        self._replaced = replaced
        self.explainer: Explainer | None = None

    async def keep(self) -> None:
        """Until cancelled, which ends the process, or until it turns out that none can have its device."""
        delay = 0.0
        while True:
            began = time.monotonic()
            end: End = "died"
            try:
                end = await self._run_one()
            except Exception:
                log.exception("an explainer couldn't be started")
            if time.monotonic() - began > LONGEST_DELAY:
                delay = 0.0
            if end == "device":
                log.error("no explainer can have its device, so none is started again: no explanations until the server is")
                return
            self._replaced(end)
            log.warning("an explainer ended (%s); the next one starts in %.1f s", end, delay)
            await asyncio.sleep(delay)
            delay = min(max(FIRST_DELAY, 2 * delay), LONGEST_DELAY)

    async def _run_one(self) -> End:
        async with started(self._command, self._socket, _environment(self._socket.parent)) as explainer:
            if explainer is None:
                return "died"
            if explainer.end is not None:
                return explainer.end
            self.explainer = explainer
            self._up(explainer)
            watches = [asyncio.create_task(watch) for watch in (_ended(explainer), self._memory(explainer), self._pulse(explainer))]
            try:
                await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for watch in watches:
                    watch.cancel()
                self.explainer = None
                explainer.retire("died")
            return explainer.end or "died"

    async def _memory(self, explainer: Explainer) -> None:
        """Returns once it has outgrown its budget and nothing runs there any more."""
        budget = explainer.resident() + self._bounds.memory
        while explainer.alive or explainer.taken:
            await asyncio.sleep(self._bounds.look)
            resident = explainer.resident()
            if resident > FAR_BEYOND * budget:
                explainer.discard("memory")
            elif resident > budget and explainer.alive:
                log.warning("an explainer holds %d MiB, its budget is %d MiB", resident >> 20, budget >> 20)
                explainer.retire("memory")

    async def _pulse(self, explainer: Explainer) -> None:
        """Returns once it hangs: for `stall` seconds of its clock it hasn't said that its jobs go on."""
        went_on = explainer.clock.seconds()
        asking = asyncio.create_task(explainer.still())
        try:
            while explainer.clock.seconds() - went_on < self._bounds.stall:
                await asyncio.sleep(self._bounds.look)
                if asking.done():
                    went_on = max(went_on, explainer.clock.seconds() - asking.result())
                    asking = asyncio.create_task(explainer.still())
        finally:
            asking.cancel()
        explainer.discard("hung")


async def _ended(explainer: Explainer) -> None:
    await explainer.process.wait()


def _environment(folder: Path) -> dict[str, str]:
    """The server's, without its settings (keys among them), and with what keeps torch and matplotlib small. Memory of a pass stays
    with the process for the next one: given back and taken anew it costs a ResNet-18's pass a tenth of its time."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("WHYSERVE_")}
    root = str(Path(service.__file__).parent.parent)
    paths = os.pathsep.join(filter(None, (root, own.get("PYTHONPATH"))))
    return own | {
        "PYTHONPATH": paths,
        "MPLCONFIGDIR": str(folder),
        "MALLOC_ARENA_MAX": "2",
        "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),  # the most that glibc takes
        "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
        "OMP_NUM_THREADS": "1",
        "CUDA_MPS_CLIENT_PRIORITY": "1",  # below normal, where the GPU is shared through MPS
    }


def has_torch() -> bool:
    """Whether this installation can explain."""
    return all(importlib.util.find_spec(name) for name in ("torch", "captum", "onnx"))

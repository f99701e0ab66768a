"""One explainer process as the server sees it: started, asked over its Unix socket, given up, ended. Imports no torch."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from service.explain.address import SocketFile
from service.explain.client import Client
from service.explain.clock import Clock
from service.explain.connection import Broken
from service.explain.endpoint import Endpoint
from service.explain.isolation import NO_DEVICE
from service.explain.message import STALLED_HEADER
from service.explain.work import Meter

POLL = 0.05
"""Seconds between two looks at whether a process answers already."""
PATIENCE = 2.0
"""Seconds that a process has to end before it is killed."""
START = 120.0
"""Seconds that a process has to answer at first, waiting for a processor not among them: torch's imports."""
IDLE = 2.0
"""Seconds that a connection is kept for the next message; uvicorn keeps it for 5."""

End = Literal["died", "hung", "memory", "device"]
"""Why a process has ended; "device": it can't have the one it is to compute on, nor could another."""


@dataclass(slots=True, eq=False)
class Explainer:
    process: asyncio.subprocess.Process
    endpoint: Endpoint
    clock: Clock
    """How long it could have computed."""
    meter: Meter = field(default_factory=lambda: Meter(time.monotonic()))
    models: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Jobs that it has, by model and version."""
    taken: int = 0
    """Jobs that it has, or that are on their way to it."""
    patient: int = 0
    """Asynchronous ones among them."""
    alone: bool = False
    """Whether the job that runs shall have no others beside it."""
    end: End | None = None
    """Set once it gets no more jobs."""

    @property
    def alive(self) -> bool:
        return self.process.returncode is None and self.end is None

    def retire(self, why: End) -> None:
        """No more jobs; its keeper ends it once those that run are done."""
        self.end = self.end or why

    def discard(self, why: End) -> None:
        """Killed; its keeper starts another one."""
        self.end = self.end or why
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    def resident(self) -> int:
        """Bytes of memory; 0 once it has ended."""
        try:
            return int(psutil.Process(self.process.pid).memory_info().rss)
        except psutil.NoSuchProcess:
            return 0

    async def still(self) -> float:
        """Seconds for which one of its jobs hasn't gone on, as it says itself, however late; for ever where it can't say so."""
        try:
            answer = await self.endpoint.client.request("GET", "/v2/health/ready")
        except Broken:
            return math.inf
        return float(answer.headers.get(STALLED_HEADER.lower(), "0"))

    async def becomes_ready(self) -> bool:
        """True once it answers, False where it ends before, or says nothing for `START` seconds of its clock."""
        while self.process.returncode is None and self.clock.seconds() < START:
            try:
                async with asyncio.timeout(START):
                    if (await self.endpoint.client.request("GET", "/v2/health/ready")).status == 200:
                        return True
            except Broken:
                await asyncio.sleep(POLL)
            except TimeoutError:
                continue  # its clock says whether it had the time to answer
        return False


@asynccontextmanager
async def started(command: Sequence[str], socket: Path, environment: Mapping[str, str]) -> AsyncIterator[Explainer | None]:
    """Runs an explainer for the time of the block: the process once it answers, None where it doesn't."""
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdin=asyncio.subprocess.DEVNULL)
    # Idle connections are closed here, well before the process closes them: a message on one that closes would be lost.
    client = Client(SocketFile(socket), keep=IDLE)
    try:
        explainer = Explainer(process, Endpoint(client), Clock(process.pid))
        ready = await explainer.becomes_ready()
        if process.returncode == NO_DEVICE:
            explainer.end = "device"
        yield explainer if ready or explainer.end else None
    finally:
        client.close()
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(PATIENCE):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

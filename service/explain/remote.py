"""One explainer process as the server sees it: started, asked over its Unix socket, ended. Imports no torch."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from service.explain.endpoint import Endpoint

POLL = 0.05
"""Seconds between two looks at whether a process answers already."""
PATIENCE = 2.0
"""Seconds that a process has to end before it is killed."""


@dataclass(slots=True, eq=False)
class Explainer:
    process: asyncio.subprocess.Process
    endpoint: Endpoint
    discarded: bool = False

    @property
    def alive(self) -> bool:
        return self.process.returncode is None and not self.discarded

    def discard(self) -> None:
        """Never used again; its keeper starts another one once it is dead."""
        self.discarded = True
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def becomes_ready(self) -> bool:
        """True once it answers, False where it ends before."""
        import httpx

        while self.process.returncode is None:
            try:
                if (await self.endpoint.client.get("/v2/health/ready")).status_code == 200:
                    return True
            except httpx.TransportError:
                await asyncio.sleep(POLL)
        return False


@asynccontextmanager
async def started(command: Sequence[str], socket: Path, environment: Mapping[str, str]) -> AsyncIterator[Explainer | None]:
    """Runs an explainer for the time of the block: the process once it answers, None where it ended at once."""
    import httpx

    process = await asyncio.create_subprocess_exec(*command, env=environment, stdin=asyncio.subprocess.DEVNULL)
    try:
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(socket)), base_url="http://explainer") as client:
            explainer = Explainer(process, Endpoint(client))
            yield explainer if await explainer.becomes_ready() else None
    finally:
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

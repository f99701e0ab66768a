"""One explainer process as the server sees it: started, asked over its Unix socket, ended. Imports no torch."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from service.errors import BadRequest, DeadlineExceeded, Unavailable, WhyserveError

if TYPE_CHECKING:
    import httpx  # not at run time's top: it would be a third of the server's start-up

LENGTH_HEADER = "Inference-Header-Content-Length"
POLL = 0.05
"""Seconds between two looks at whether a process answers already."""
PATIENCE = 2.0
"""Seconds that a process has to end before it is killed."""


class Lost(Exception):
    """The explainer died, or closed its connection, before it had answered."""


@dataclass(slots=True, eq=False)
class Explainer:
    process: asyncio.subprocess.Process
    client: httpx.AsyncClient
    discarded: bool = False

    @property
    def alive(self) -> bool:
        return self.process.returncode is None and not self.discarded

    def discard(self) -> None:
        """Never used again; its keeper starts another one once it is dead."""
        self.discarded = True
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def ask(
        self, verb: str, path: str, seconds: float, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[bytes, int | None]:
        """The answer's body and its JSON header's length. Raises Lost, DeadlineExceeded, and the error that was answered."""
        import httpx

        timeout = httpx.Timeout(max(seconds, 0.01), connect=5.0)
        try:
            answer = await self.client.request(verb, path, content=body, headers=headers, timeout=timeout)
        except httpx.TimeoutException:
            raise DeadlineExceeded("no explanation in time (parameter 'timeout')") from None
        except httpx.TransportError:
            raise Lost from None
        if answer.status_code != 200:
            raise _error(answer)
        length = answer.headers.get(LENGTH_HEADER)
        return answer.content, None if length is None else int(length)

    async def becomes_ready(self) -> bool:
        """True once it answers, False where it ends before."""
        import httpx

        while self.process.returncode is None:
            try:
                if (await self.client.get("/v2/health/ready")).status_code == 200:
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
            explainer = Explainer(process, client)
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


def _error(answer: httpx.Response) -> WhyserveError:
    """The error class that the explainer's code word names, with its message."""
    try:
        found = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return WhyserveError(f"an explainer answered with status {answer.status_code}")
    classes: list[type[WhyserveError]] = [WhyserveError]
    for known in classes:
        classes += known.__subclasses__()
    by_code = {known.code: known for known in reversed(classes)}  # the most general class of a code takes a message alone
    kind = by_code.get(found["code"], BadRequest if answer.status_code == 400 else WhyserveError)
    if kind is Unavailable:
        return Unavailable(found["error"], int(answer.headers.get("Retry-After", "1")))
    return kind(found["error"])

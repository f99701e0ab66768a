"""The explainer processes as the server sees them: messages wait in line, go to a process, and to another where that is lost.

One mechanism for local and remote: an explainer answers V2 `explain` with binary tensors; here over a Unix socket. Imports no torch.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import shutil
import tempfile
import time
from pathlib import Path

from service.engine.precedence import Precedence
from service.errors import DeadlineExceeded, DeviceMissing, NotExplainable, Unavailable
from service.explain.endpoint import GRACE, Lost
from service.explain.explainers import Explainers
from service.explain.keeper import Bounds, Keeper, has_torch
from service.explain.line import Line, Ticket
from service.explain.message import Message, Reply
from service.explain.poison import Poison
from service.explain.remote import Explainer
from service.explain.turns import Turns
from service.explain.work import Estimates
from service.settings import Settings
from service.telemetry import Metrics

log = logging.getLogger("whyserve.explain")
__all__ = ["Pool", "has_torch"]
NO_EXPLAINER = "explanations were to be computed on a GPU that PyTorch can't have (WHYSERVE_DEVICE); the server's log says why"


class Pool(Explainers):
    """`processes` explainers for a model repository; `start` once the server is ready, `stop` at its end.

    At most `queue` messages wait or run at once, of which one API key may hold the part `share`. One that comes while
    explainers start waits within its time.
    """

    def __init__(
        self,
        models: Path,
        model_name: str | None = None,
        *,
        processes: int = 1,
        queue: int = 64,
        share: float = 0.5,
        memory_mib: int = 2048,
        device: str = "cpu",
        gpu_memory_mib: int = 4096,
        timeout: float = 60.0,
        bounds: Bounds | None = None,
        metrics: Metrics | None = None,
        precedence: Precedence | None = None,
    ) -> None:
        super().__init__(timeout)
        self._arguments = ["--models", str(models), "--memory-mib", str(memory_mib), "--max-timeout", str(timeout)]
        self._arguments += ["--device", device, "--gpu-memory-mib", str(gpu_memory_mib)]
        self._arguments += [] if model_name is None else ["--model-name", model_name]
        self._able = has_torch()  # asked once: it looks through the file system
        self._processes = processes
        self._bounds = bounds or Bounds(memory_mib * 2**20)
        self._line = Line(queue, share, processes, time.monotonic)
        self._estimates = Estimates()
        self._poison = Poison(time.monotonic)
        self._keepers: list[Keeper] = []
        self._keeping: list[asyncio.Task[None]] = []
        self._late: set[asyncio.Task[Reply]] = set()
        self._folder: Path | None = None
        self._stopped = False
        self._metrics = metrics or Metrics()
        self._precedence = precedence or Precedence()
        self._turns = Turns(self._line, self._alive, self._metrics.explain_wait.observe)
        self._metrics.watch_line(
            length=lambda interactive: self._line.waiting(interactive=interactive),
            work=lambda: self._line.work,
            alive=lambda: len(self._alive()),
        )

    @classmethod
    def of(cls, settings: Settings, metrics: Metrics, precedence: Precedence) -> Pool:
        return cls(
            settings.models,
            settings.model_name,
            processes=settings.explainers,
            queue=settings.explainer_queue,
            share=settings.key_share,
            memory_mib=settings.explainer_memory_mib,
            device=settings.device,
            gpu_memory_mib=settings.explainer_gpu_memory_mib,
            bounds=Bounds(settings.explainer_memory_mib * 2**20, settings.explainer_stall),
            timeout=settings.timeout,
            metrics=metrics,
            precedence=precedence,
        )

    async def start(self) -> None:
        """Starts the processes and returns at once."""
        if not self._able:
            log.warning("torch, captum and onnx are not installed (extra 'explain'): predictions only")
            return
        folder = self._folder = Path(tempfile.mkdtemp(prefix="whyserve-"))  # short: a socket's path has about 100 characters
        replaced = self._metrics.explainer_replaced
        self._keepers = [
            Keeper(
                folder / f"{i}.sock", self._arguments, self._bounds, lambda _: self._turns.call(), lambda end: replaced.labels(end).inc()
            )
            for i in range(self._processes)
        ]
        self._keeping = [asyncio.create_task(keeper.keep()) for keeper in self._keepers]
        for keeping in self._keeping:
            keeping.add_done_callback(self._kept)

    async def stop(self) -> None:
        """Ends the processes; explanations that still run are lost."""
        self._stopped = True
        for task in (*self._keeping, *self._late):
            task.cancel()
        await asyncio.gather(*self._keeping, *self._late, return_exceptions=True)
        self._keeping = []
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def ready(self) -> bool:
        """Whether an explainer answers."""
        return bool(self._alive())

    @property
    def device_missing(self) -> bool:
        """Whether no explainer will ever answer, for want of the device that was asked for."""
        return bool(self._keeping) and all(map(_gave_up, self._keeping))

    @property
    def pending(self) -> int:
        """Messages that wait or run."""
        return len(self._line)

    @property
    def running(self) -> int:
        """Messages that a process has."""
        return sum(explainer.taken for explainer in self._alive())

    async def carry(self, message: Message) -> Reply:
        """What an explainer answers; asked of a second one, alone there, where the first is lost on the way."""
        if not self._able:
            raise NotExplainable("this server can't explain: the extra 'explain' isn't installed")
        if self._stopped:
            raise Unavailable("the server is stopping")
        if self.device_missing:
            raise DeviceMissing(NO_EXPLAINER)
        if message.left <= 0:
            raise DeadlineExceeded("no explanation in time (parameter 'timeout')")
        self._poison.check(message)
        ticket = self._line.enter(message.caller, self._estimates.of(message), message.deadline)
        done = False
        try:
            with contextlib.suppress(Lost):
                reply = await self._asked(ticket, message)
                done = True
                return reply
            log.warning("an explainer was lost while it explained")
            self._line.back(ticket)
            try:
                # Alone: if that process is lost too, this message has ended it and no neighbour.
                reply = await self._asked(ticket, message, alone=True)
            except Lost:
                self._poison.add(message)
                raise Unavailable("two explainers were lost on this request", self._poison.left(message)) from None
            done = True
            return reply
        finally:
            self._line.leave(ticket, done=done)
            self._turns.call()

    async def _asked(self, ticket: Ticket, message: Message, *, alone: bool = False) -> Reply:
        """Waits for a process and asks it; beyond the deadline it is waited for without its asker.

        Who asked is answered in time, whatever the process does. It has its place until it says so itself, or is lost: a pass or a
        model's loading may take longer than a short deadline. Raises Lost, DeadlineExceeded, and what was answered.
        """
        explainer = await self._turns.come(ticket, message, alone=alone)
        asking = asyncio.create_task(self._answer(explainer, message))
        asking.add_done_callback(lambda _: self._turns.over(explainer, message))  # also of a task that ends before it has begun
        try:
            await asyncio.wait({asking}, timeout=max(message.left + GRACE, 0.01))
        except asyncio.CancelledError:
            asking.cancel()
            raise
        if asking.done():
            return asking.result()
        self._late.add(asking)
        asking.add_done_callback(self._came_late)
        raise DeadlineExceeded("no explanation in time (parameter 'timeout')")

    def _kept(self, _: asyncio.Task[None]) -> None:
        """A keeper has given up, or was stopped."""
        if self.device_missing:
            self._turns.give_up(DeviceMissing(NO_EXPLAINER))

    async def _answer(self, explainer: Explainer, message: Message) -> Reply:
        """What the explainer answers, once it's an explanation's turn here. Until then nobody gets its place: the next one's message
        would be sent at once."""
        reply = await self._measured(explainer, message)
        await self._precedence.turn()
        return reply

    async def _measured(self, explainer: Explainer, message: Message) -> Reply:
        mark = explainer.meter.begin(time.monotonic())
        answered = False
        try:
            reply = await explainer.endpoint.ask(message, grace=math.inf)  # whether it hangs is seen by its keeper
            answered = True
            return reply
        except Lost:
            explainer.discard("died")
            raise
        finally:
            cost = explainer.meter.end(mark, time.monotonic())
            if answered:
                self._estimates.learn(message, cost)

    def _came_late(self, asking: asyncio.Task[Reply]) -> None:
        self._late.discard(asking)
        if not asking.cancelled():
            asking.exception()  # seen: nobody asks for it any more

    def _alive(self) -> list[Explainer]:
        return [keeper.explainer for keeper in self._keepers if keeper.explainer is not None and keeper.explainer.alive]


def _gave_up(keeping: asyncio.Task[None]) -> bool:
    """Whether a keeper has found that no process can have its device: nothing else ends it but being stopped."""
    return keeping.done() and not keeping.cancelled() and keeping.exception() is None

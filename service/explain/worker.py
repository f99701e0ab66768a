"""What an explainer process answers: Open Inference V2 `explain`, studies, a model's state, its health. Served by `process`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.codecs.v2 import InferRequest, decode_request, encode_response
from service.engine.session import OutOfMemory
from service.errors import BadRequest, DeadlineExceeded, TooLarge, WhyserveError
from service.explain.answer import encode
from service.explain.cancel import Cancelled, TimeUp, Token
from service.explain.lane import Lane
from service.explain.message import LENGTH_HEADER, SPARING, STALLED_HEADER
from service.explain.methods import available, resolve
from service.explain.methods.request import ExplainRequest, Limits, with_companions
from service.explain.shelf import Shelf
from service.manifest import MODEL_FILE

if TYPE_CHECKING:
    from service.explain.layers.workshop import Workshop
    from service.explain.subject import Subject

log = logging.getLogger("whyserve.explainer")
Result = TypeVar("Result")
CLIENT_GONE = 499
MEMORY_SETTINGS = "WHYSERVE_EXPLAINER_MEMORY_MIB, on a GPU WHYSERVE_EXPLAINER_GPU_MEMORY_MIB"
AT_ONCE = 8
"""Requests worked on side by side; the others wait."""
TIDY = 2.0
"""Seconds after a request in which freed memory stays with the process: the next one takes it at once. Given back after each, it costs
a small network's explanation a third of its time to have it anew."""


class Worker:
    """The ASGI endpoints. Requests are worked on side by side: one at a time has the lane, and takes along what the others wait to
    have computed where the model and the method allow it. Methods that hook modules have the lane to themselves from beginning to end."""

    def __init__(self, shelf: Shelf[Subject], lane: Lane, memory: int, max_timeout: float) -> None:
        self._shelf = shelf
        self._lane = lane
        self._memory = memory
        self._max_timeout = max_timeout
        self._threads = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="explain")
        self._running: set[Token] = set()
        self._tidying: asyncio.TimerHandle | None = None
        self._workshop: Workshop | None = None

    def app(self) -> Starlette:
        path = "/v2/models/{name}/versions/{version:int}"
        return Starlette(
            routes=[
                Route("/v2/health/ready", self.ready),
                Route(path, _answering(self.status)),
                Route(f"{path}/explain", _answering(self.explain), methods=["POST"]),
                Route(f"{path}/study/{{operation}}", _answering(self.study), methods=["POST"]),
            ]
        )

    def warm_up(self) -> None:
        """Imports Captum while nobody waits: it takes a second, and several with matplotlib's first font cache."""
        self._threads.submit(importlib.import_module, "service.explain.explainer")
        self._threads.submit(importlib.import_module, "captum.attr")

    async def ready(self, _: Request) -> Response:
        """Says for how long a job has taken no step, the one that has taken none for longest: one that waits for another does."""
        return Response(headers={STALLED_HEADER: f"{max((token.still for token in tuple(self._running)), default=0.0):.1f}"})

    async def status(self, request: Request) -> Response:
        """The twin's state and the methods that follow from it."""
        name, version = request.path_params["name"], request.path_params["version"]
        token = Token()
        subject = await self._run(request, token, lambda: self._subject(token, name, version))
        body = {
            "name": name,
            "versions": [str(version)],
            "platform": "onnx_onnxv1",
            "twin": subject.status.model_dump(),
            "methods": available(subject.manifest, subject.status),
        }
        return Response(orjson.dumps(body), media_type="application/json")

    async def explain(self, request: Request) -> Response:
        asked = await _asked(request)
        parameters = dict(asked.parameters)
        microseconds = parameters.pop("timeout", None)
        sha256 = parameters.pop("model_sha256", None)
        numbers = not parameters.pop(SPARING, False)
        seconds = self._max_timeout if microseconds is None else float(microseconds) / 1e6
        token = Token(seconds)

        def compute() -> tuple[bytes, int | None]:
            # Imported here: the process answers health checks before torch and Captum are there.
            from service.explain.explainer import explain, shapes

            name, version = request.path_params["name"], request.path_params["version"]
            with self._lane.held(token):
                subject = self._subject(token, name, version, None if sha256 is None else str(sha256))
                wanted = resolve(subject.manifest, parameters | {"timeout": seconds}, Limits(timeout=seconds))
                wanted, tensors = with_companions(wanted, asked.inputs, {info.name for info in subject.served.inputs})
                with contextlib.nullcontext() if shares_passes(wanted) else self._lane.alone(token):
                    answer = explain(subject, wanted, tensors, token, self._memory)
                model = (subject.manifest.name, str(subject.manifest.version))
                response = encode(answer, shapes(subject, wanted, tensors), *model, asked.id, numbers=numbers)
                return encode_response(response, asked.select([tensor.name for tensor in response.outputs]))

        return _tensors(*await self._run(request, token, compute))

    async def study(self, request: Request) -> Response:
        """An operation on the model's layers; its parameters are JSON text. Without tensors the body is V2's parameters alone."""
        bare = LENGTH_HEADER not in request.headers
        asked = InferRequest({}, parameters=orjson.loads(await request.body()), binary_default=True) if bare else await _asked(request)
        operation, name, version = (request.path_params[key] for key in ("operation", "name", "version"))
        sha256 = str(asked.parameters["model_sha256"])
        token = Token(float(asked.parameters["timeout"]) / 1e6)

        def compute() -> tuple[bytes, int | None]:
            from service.explain.layers import studied
            from service.explain.layers.workshop import Workshop

            with self._lane.alone(token):
                if self._workshop is None:
                    self._workshop = Workshop()
                subject, file = self._subject(token, name, version, sha256), self._shelf.location(name, version).folder / MODEL_FILE
                parameters = orjson.loads(str(asked.parameters["parameters"]))
                found = self._workshop.run(operation, subject, file, asked.inputs, parameters, token, self._memory)
            response = studied.encode(found, name, str(version), asked.id)
            return encode_response(response, asked.select([tensor.name for tensor in response.outputs]))

        return _tensors(*await self._run(request, token, compute))

    async def _run(self, request: Request, token: Token, job: Callable[[], Result]) -> Result:
        """The job's result from the computing thread; a client that hangs up cancels it, queued or running."""

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            token.cancel()

        await request.body()  # what is received after it is the hang-up
        watcher = asyncio.create_task(watch())
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._computed, token, job)
        finally:
            watcher.cancel()
            self._tidy_soon()

    def _computed(self, token: Token, job: Callable[[], Result]) -> Result:
        token.check()
        self._running.add(token)
        try:
            return job()
        finally:
            self._running.discard(token)

    def _tidy_soon(self) -> None:
        """Freed memory goes back to the system `TIDY` seconds from now, for all requests until then."""
        if self._tidying is None:
            self._tidying = asyncio.get_running_loop().call_later(TIDY, self._tidy)

    def _tidy(self) -> None:
        from service.explain.memory import trim

        self._tidying = None
        asyncio.get_running_loop().run_in_executor(None, trim)

    def _subject(self, token: Token, name: str, version: int, sha256: str | None = None) -> Subject:
        with self._lane.held(token, undivided=True):  # the shelf isn't for several threads, and a twin is tried when it is loaded
            token.check()
            return self._shelf.get(name, version, sha256, token.to_its_end())


def shares_passes(request: ExplainRequest) -> bool:
    """Whether its rows may be computed beside others': neither hooks nor global generators of random numbers are at work."""
    fixed = getattr(request.parameters, "steps", None) is not None
    return request.method.family == "path" and not fixed and not request.parameters.quality


async def _asked(request: Request) -> InferRequest:
    body = await request.body()
    length = request.headers.get(LENGTH_HEADER)
    if length is not None and not length.isdigit():
        raise BadRequest(f"{LENGTH_HEADER}: expected a number, got {length!r}")
    return decode_request(body, None if length is None else int(length))


def _tensors(content: bytes, header_length: int | None) -> Response:
    headers = {} if header_length is None else {LENGTH_HEADER: str(header_length)}
    return Response(content, headers=headers, media_type="application/json" if header_length is None else "application/octet-stream")


def _answering(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint, with errors as API.md's bodies."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except WhyserveError as error:
            return _failed(_too_large() if _out_of_memory(error) else error)
        except TimeUp:
            return _failed(DeadlineExceeded("no explanation in time (parameter 'timeout')"))
        except Cancelled:
            return Response(status_code=CLIENT_GONE)
        except Exception as error:
            if _out_of_memory(error):
                return _failed(_too_large())
            log.exception("explanation failed")
            return _failed(WhyserveError("the explanation failed; the server's log says why"))

    return answer


def _failed(error: WhyserveError) -> Response:
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    body = orjson.dumps({"error": error.message, "code": error.code})
    return Response(body, error.status, headers, "application/json")


def _too_large() -> TooLarge:
    return TooLarge(f"this explanation needs more memory than an explainer has ({MEMORY_SETTINGS})")


def _out_of_memory(error: Exception) -> bool:
    """The served model's or the twin's: torch has no class for it on the CPU, and CUDA's libraries have words of their own."""
    words = ("allocate memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, MemoryError | OutOfMemory) or (isinstance(error, RuntimeError) and any(each in str(error) for each in words))

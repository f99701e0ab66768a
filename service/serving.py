"""The one path that every protocol calls: resolve, decode, then run or attribute, then split and encode."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from service import companions
from service.blocks import all_of, alone, blocks_of, in_order
from service.budget import Budget
from service.caller import ANYONE, Caller
from service.codecs.instance import Instance, InstanceDecoder
from service.codecs.output import encode_predictions
from service.engine.precedence import Precedence
from service.errors import BadParameter, DeadlineExceeded, NotExplainable
from service.explain.answer import ExplainAnswer, Explanation
from service.explain.explainers import Explainers
from service.explain.methods import ExplainRequest, available, resolve, resolve_all
from service.explain.methods.request import Limits, with_companions
from service.explanations.asked import Asked, Explained
from service.explanations.key import keys
from service.explanations.postponed import Attempt
from service.explanations.shared import Shared
from service.generation import Rows, draw_missing, rows_to_generate
from service.parameters import GenerateParameters, PredictParameters
from service.repository.loaded import LoadedModel
from service.repository.registry import Registry
from service.telemetry import Metrics, Stopwatch

Array = np.ndarray[Any, Any]
Outputs = dict[str, Array]
Ask = Callable[[Attempt[list[Explanation]], float], Awaitable[list[Explanation]]]
"""How a question that may take so many seconds is asked: once, or as often as it takes."""

AT_ONCE = 4
"""Questions of one request to the explainers at a time: methods, and instances of other shapes."""
_LONG = 2**18
"""Bytes that are hashed on a thread: on the event loop predictions would wait for a fifth of a millisecond."""
_BYTES_A_PIXEL = 3 + 3 * 4
"""What decoding holds at its peak: 8-bit RGB and, where it is resampled, a float a channel."""


class Ran(NamedTuple):
    """One run of the model: outputs (n, ...) by name, and at which place of the request each of the n rows stood."""

    places: list[int]
    outputs: Outputs


@dataclass(frozen=True, slots=True, eq=False)
class Generated:
    """A generated row: the inputs it was made from and the outputs (without batch axis) that were made."""

    inputs: dict[str, Array]
    outputs: Outputs


async def at_once(attempt: Attempt[list[Explanation]], seconds: float) -> list[Explanation]:
    """Asked once: somebody waits, and would rather hear that there is no room than wait for it."""
    return await attempt(seconds)


class Serving:
    """Predict, explain and generate for instances `{input: value}`; protocols differ in what they make of a body."""

    def __init__(
        self,
        registry: Registry,
        pool: Explainers | None,
        shared: Shared,
        metrics: Metrics,
        precedence: Precedence,
        *,
        at_once: int,
        decoding_bytes: int,
        max_instances: int,
        limits: Limits,
        later: Limits,
    ) -> None:
        self.registry = registry
        self.pool = pool
        self._shared = shared
        self._at_once = at_once
        self._metrics = metrics
        self.precedence = precedence
        self._decoding = Budget(decoding_bytes)
        self._max_instances = max_instances
        self._limits = limits
        self._later = later
        self._timeout = limits.timeout

    async def predict(self, model: LoadedModel, sent: list[dict[str, Any]], parameters: PredictParameters) -> list[dict[str, Any]]:
        """One prediction an instance of `sent`, which is empty afterwards. Raises BadInput, TooLarge, ModelFailed, DeadlineExceeded."""
        watch = Stopwatch(model.series)
        rows = [instance.tensors for instance in await self.decode(model, sent)]
        sent.clear()  # a tensor's numbers as JSON brought them take ten times its memory: gone before the next request is parsed
        watch.lap("preprocess")
        ran = await self.run(model, rows)
        watch.lap("predict")
        predictions = _predictions(model, ran, parameters.top_k)
        watch.lap("postprocess")
        return predictions

    async def explain(
        self, model: LoadedModel, sent: list[dict[str, Any]], parameters: Mapping[str, Any], caller: Caller = ANYONE
    ) -> Explained:
        """Predictions and the reasons for them. Raises what `predict` raises, BadParameter, NotExplainable, Unavailable."""
        return await self.answer(await self.prepare(model, sent, parameters, caller), caller)

    async def prepare(
        self, model: LoadedModel, sent: list[dict[str, Any]], parameters: Mapping[str, Any], caller: Caller = ANYONE
    ) -> Asked:
        """What is asked for, checked and decoded. Raises BadInput, TooLarge, BadParameter, NotExplainable."""
        self._explainers()
        requests = resolve_all(model.manifest, parameters, self._limits if caller.interactive else self._later)
        _require_targets(requests[0], len(sent))
        watch = Stopwatch(model.series)
        seed = requests[0].parameters.seed
        complete = draw_missing(model.manifest, sent, seed)
        instances = [
            _noted(instance, whole.keys() - part.keys(), seed)
            for instance, whole, part in zip(await self.decode(model, complete), complete, sent, strict=True)
        ]
        requests = tuple([await self._with_companions(model, request) for request in requests])
        watch.lap("preprocess")
        return Asked(model, requests, instances)

    async def answer(self, asked: Asked, caller: Caller = ANYONE, ask: Ask = at_once) -> Explained:
        """What was asked for, computed, each question for it by `ask`. Raises what `explain` and `ask` raise."""
        pool, model, requests, instances = self._explainers(), asked.model, asked.requests, asked.instances
        watch = Stopwatch(model.series)
        ran = await self.run(model, [i.tensors for i in instances])
        predictions = _predictions(model, ran, requests[0].parameters.top_k)
        watch.lap("predict")
        blocks = list(blocks_of([i.tensors for i in instances], self._max_instances))
        questions = [
            (companions.with_words(request.of_instances(block.places), model.manifest.inputs, [instances[i] for i in block.places]), block)
            for request in requests
            for block in blocks
        ]
        works = [partial(self._known, pool, model, request, block.feeds, caller, ask) for request, block in questions]
        answers = iter(await all_of(works, self._at_once))
        by_method = [in_order(blocks, [next(answers) for _ in blocks]) for _ in requests]
        watch.lap("explain")
        return Explained(requests, instances, predictions, list(zip(*by_method, strict=True)))

    async def _known(
        self, pool: Explainers, model: LoadedModel, request: ExplainRequest, feeds: Mapping[str, Array], caller: Caller, ask: Ask = at_once
    ) -> list[Explanation]:
        """One explanation a row of `feeds` (n, ..): known ones as they are, the others computed, once for all who ask just now."""

        async def compute(seconds: float, places: list[int]) -> list[Explanation]:
            whole = places == list(range(len(next(iter(feeds.values())))))
            rows = feeds if whole else {name: array[places] for name, array in feeds.items()}
            theirs = replace(request if whole else request.of_instances(places), timeout=seconds)
            answers = await pool.explain(model.name, model.version, rows, theirs, model.bundle.model_sha256, caller)
            self._count(model, request.method.name, answers)
            return answers

        long = sum(array.nbytes for array in feeds.values()) > _LONG
        wanted = await asyncio.to_thread(keys, model, request, feeds) if long else keys(model, request, feeds)

        async def attempt(seconds: float) -> list[Explanation]:
            return await self._shared.explain(wanted, (seconds, caller.interactive), partial(compute, seconds))

        return await ask(attempt, request.timeout)

    async def _with_companions(self, model: LoadedModel, request: ExplainRequest) -> ExplainRequest:
        """The request with its baseline and reference decoded, within the budget for decoding."""
        inputs = model.manifest.inputs
        if not companions.are_sent(request, inputs):
            return request
        async with self._decoding.hold(companions.encoded_pixels(request, inputs, model.decoder) * _BYTES_A_PIXEL):
            return await asyncio.to_thread(companions.decoded, request, inputs, model.decoder, self._max_instances)

    async def explain_arrays(
        self, model: LoadedModel, arrays: Mapping[str, Array], parameters: Mapping[str, Any], caller: Caller = ANYONE
    ) -> ExplainAnswer:
        """Explanations for whole batches (n, ...) of the graph's own inputs. Raises what `explain` raises."""
        pool = self._explainers()
        request = resolve(model.manifest, parameters, self._limits)
        watch = Stopwatch(model.series)
        request, rows = with_companions(request, arrays, {i.name for i in model.graph_inputs})
        request = await self._with_companions(model, request)
        feeds = model.decoder.check(rows)
        _require_targets(request, len(next(iter(feeds.values()))))
        watch.lap("preprocess")
        answers = await self._known(pool, model, request, feeds, caller)
        watch.lap("explain")
        return ExplainAnswer(tuple(answers))

    async def methods(self, model: LoadedModel) -> list[dict[str, Any]]:
        """The methods that can explain this model, each with its parameters as JSON Schema."""
        return available(model.manifest, await self._explainers().status(model.name, model.version))

    def _explainers(self) -> Explainers:
        if self.pool is None:
            raise NotExplainable("explanations are turned off on this server (WHYSERVE_EXPLAINERS=0)")
        return self.pool

    def _count(self, model: LoadedModel, method: str, explanations: Sequence[Explanation]) -> None:
        labels = (model.name, str(model.version))
        for explanation in explanations:
            self._metrics.explain_duration.labels(*labels, method).observe(explanation.fields["seconds"])
            self._metrics.explain_rows.labels(*labels, method).observe(explanation.fields["rows"])
            self._metrics.explain_steps.labels(*labels, method).observe(explanation.fields["steps"] or 0)
            if (error := explanation.fields["completeness_error"]) is not None:
                self._metrics.completeness.labels(*labels, method).observe(error)
            if (error := explanation.fields["parity_error"]) is not None:
                self._metrics.parity.labels(*labels).observe(error)

    async def infer(self, model: LoadedModel, arrays: Mapping[str, Array]) -> Outputs:
        """Outputs (n, ...) for whole batches (n, ...) of the graph's own inputs. Raises BadInput, ModelFailed, DeadlineExceeded."""
        watch = Stopwatch(model.series)
        feeds = model.decoder.check(arrays)
        watch.lap("preprocess")
        answers = await self._within(model, list(_pieces(model, feeds)))
        watch.lap("predict")
        outputs = answers[0] if len(answers) == 1 else [np.concatenate(parts) for parts in zip(*answers, strict=True)]
        return dict(zip(model.session.output_names, outputs, strict=True))

    async def generate(self, model: LoadedModel, sent: list[dict[str, Any]], parameters: GenerateParameters) -> list[Generated]:
        """As many rows as asked for, from the instances sent or drawn by seed. Raises NotFound, BadInput, ModelFailed."""
        rows = rows_to_generate(model.manifest, sent, parameters)
        watch = Stopwatch(model.series)
        ran = await self.run(model, rows)
        watch.lap("predict")
        made = {
            place: Generated(rows[place], {name: output[k] for name, output in run.outputs.items()})
            for run in ran
            for k, place in enumerate(run.places)
        }
        return [made[place] for place in range(len(rows))]

    async def decode(self, model: LoadedModel, sent: list[dict[str, Any]]) -> list[Instance]:
        """Instances to rows: small ones here, large ones on a thread and within the budget for decoding."""
        decoder = model.decoder
        return [decoder.decode(one) if decoder.is_quick(one) else await self._decode_long(decoder, one) for one in sent]

    async def _decode_long(self, decoder: InstanceDecoder, sent: dict[str, Any]) -> Instance:
        async with self._decoding.hold(decoder.pixels(sent) * _BYTES_A_PIXEL):
            return await asyncio.to_thread(decoder.decode, sent)

    async def run(self, model: LoadedModel, rows: Rows) -> list[Ran]:
        """The model's outputs. Rows of one shape share a run, rows of another shape make a run of their own."""
        blocks = [alone(rows[0])] if len(rows) == 1 else list(blocks_of(rows, model.batcher.max_rows))
        answers = await self._within(model, [block.feeds for block in blocks])
        names = model.session.output_names
        return [Ran(block.places, dict(zip(names, answer, strict=True))) for block, answer in zip(blocks, answers, strict=True)]

    async def _within(self, model: LoadedModel, batches: list[dict[str, Array]]) -> list[list[Array]]:
        """The outputs of each batch, by the deadline. Raises DeadlineExceeded."""
        if len(batches) == 1 and model.batcher.inline:  # it runs on the event loop, where no timer could interrupt it
            return [await model.batcher.run(batches[0])]
        try:
            async with asyncio.timeout(self._timeout):
                if len(batches) == 1:
                    return [await model.batcher.run(batches[0])]
                return list(await asyncio.gather(*map(model.batcher.run, batches)))
        except TimeoutError:
            raise DeadlineExceeded(f"no answer within {self._timeout:g} s (setting WHYSERVE_TIMEOUT)") from None


def _pieces(model: LoadedModel, feeds: dict[str, Array]) -> Iterator[dict[str, Array]]:
    """Rows (n, ..) in pieces of the model's largest batch, views; all as one where their answers can't be taken apart."""
    rows, most = len(next(iter(feeds.values()))), model.batcher.max_rows
    apart = model.manifest.batching.rows_independent and all(info.shape and info.shape[0] is None for info in model.session.outputs)
    if rows <= most or not apart:
        yield feeds
        return
    for start in range(0, rows, most):
        yield {name: array[start : start + most] for name, array in feeds.items()}


def _require_targets(request: ExplainRequest, instances: int) -> None:
    targets = request.parameters.targets
    if targets is not None and len(targets) != instances:
        raise BadParameter(f"parameter 'targets': {len(targets)} targets for {instances} instances")


def _noted(instance: Instance, drawn: Set[str], seed: int) -> Instance:
    """The instance with a warning where inputs of it were drawn: never a silent default."""
    if not drawn:
        return instance
    return replace(instance, warnings=(*instance.warnings, f"drawn with seed {seed}: {', '.join(sorted(drawn))}"))


def _predictions(model: LoadedModel, ran: list[Ran], top_k: int) -> list[dict[str, Any]]:
    """Encoded predictions in the request's order."""
    if len(ran) == 1:
        return encode_predictions(ran[0].outputs, model.manifest.outputs, top_k)
    placed = {
        place: prediction
        for run in ran
        for place, prediction in zip(run.places, encode_predictions(run.outputs, model.manifest.outputs, top_k), strict=True)
    }
    return [placed[place] for place in range(len(placed))]

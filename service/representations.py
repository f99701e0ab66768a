"""Layers, filters, activations, layer attributions and feature visualisation: from instances as sent to what an explainer finds."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from service import companions
from service.api.bodies import BodyLimits, parse_body
from service.blocks import Array, Block, blocks_of, in_order
from service.caller import ANYONE, Caller
from service.codecs.instance import Instance
from service.errors import BadInput, BadParameter, NotExplainable
from service.explain.explainers import Explainers
from service.explain.layers.methods import METHODS
from service.explain.layers.parameters import (
    ActivationParameters,
    FilterParameters,
    LayerAttributionParameters,
    Parameters,
    VisualiseParameters,
    check,
)
from service.explain.layers.studied import REFERENCE, Operation, Studied
from service.explain.methods.request import ExplainRequest, Limits
from service.explain.methods.request import companions as sent_along
from service.generation import draw_missing
from service.repository.loaded import LoadedModel
from service.serving import Serving

Rows = dict[str, Array]
DRAWN = 16
"""Instances drawn for a generative model, to compare a visualisation with."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What was found for instances, one row each."""

    studied: Studied
    instances: list[Instance]


class Representations:
    """The operations on layers over one Serving."""

    def __init__(self, serving: Serving, bodies: BodyLimits, limits: Limits) -> None:
        self._serving = serving
        self._bodies = bodies
        self._limits = limits

    async def layers(self, model: LoadedModel, caller: Caller = ANYONE) -> Studied:
        """Raises Unavailable, NotExplainable (no explainers here)."""
        return await self._ask("layers", model, {}, {}, None, caller)

    async def filters(self, model: LoadedModel, parameters: Mapping[str, Any], caller: Caller = ANYONE) -> Studied:
        """Raises BadParameter, UnknownChoice (layer), NotExplainable, TooLarge."""
        wanted = check(FilterParameters, parameters)
        return await self._ask("filters", model, {}, wanted.model_dump(exclude_defaults=True), self._seconds(wanted), caller)

    async def activations(
        self, model: LoadedModel, sent: list[dict[str, Any]], parameters: Mapping[str, Any], caller: Caller = ANYONE
    ) -> Seen:
        """Raises what `Serving.predict` raises, BadParameter, UnknownChoice (layer), NotExplainable, TooLarge."""
        wanted = check(ActivationParameters, parameters)
        seconds, plain = self._seconds(wanted), wanted.model_dump(exclude_defaults=True)
        instances = await self._decoded(model, sent, 0)
        blocks = _blocks(instances)
        found = [await self._ask("activations", model, block.feeds, plain, seconds, caller) for block in blocks]
        return Seen(_joined(found, blocks), instances)

    async def explain(self, model: LoadedModel, sent: list[dict[str, Any]], parameters: Mapping[str, Any], caller: Caller = ANYONE) -> Seen:
        """Attributions of a layer's units. Raises what `Serving.explain` raises."""
        wanted = check(LayerAttributionParameters, parameters)
        for name in ("steps", "max_steps"):
            self._require_steps(name, getattr(wanted, name) if name in wanted.model_fields_set else None)
        if wanted.targets is not None and len(wanted.targets) != len(sent):
            raise BadParameter(f"parameter 'targets': {len(wanted.targets)} targets for {len(sent)} instances")
        request = ExplainRequest(METHODS[wanted.method], wanted, self._seconds(wanted) or self._limits.timeout)
        inputs = model.manifest.inputs
        request = await asyncio.to_thread(companions.decoded, request, inputs, model.decoder, self._bodies.max_instances)
        instances = await self._decoded(model, sent, wanted.seed)
        blocks, found = _blocks(instances), []
        for block in blocks:
            part = request.of_instances(block.places)
            plain = part.parameters.model_dump(exclude_defaults=True)
            found.append(await self._ask("explain-layer", model, block.feeds | sent_along(part), plain, request.timeout, caller))
        return Seen(_joined(found, blocks), instances)

    async def visualise(
        self, model: LoadedModel, sent: list[dict[str, Any]], parameters: Mapping[str, Any], caller: Caller = ANYONE
    ) -> Studied:
        """What units look for, compared with the instances sent, else with the bundle's golden ones. The first one's other
        inputs are kept. Raises BadParameter, UnknownChoice (layer, unit), NotExplainable, DeadlineExceeded."""
        wanted = check(VisualiseParameters, parameters)
        self._require_steps("steps", wanted.steps)
        real = await self._real(model, sent, wanted.seed)
        tensors = {name: array[None] for name, array in (real[0] if real else _blank(model)).items()}
        tensors |= {f"{REFERENCE}{i}.{name}": array[None] for i, row in enumerate(real) for name, array in row.items()}
        return await self._ask("visualise", model, tensors, wanted.model_dump(exclude_defaults=True), self._seconds(wanted), caller)

    async def _real(self, model: LoadedModel, sent: list[dict[str, Any]], seed: int) -> list[Rows]:
        """Instances as tensors without the batch axis: those sent, else golden ones; of a generative model drawn ones."""
        if not sent and any(declared.sample == "normal" for declared in model.manifest.inputs):
            sent = [{} for _ in range(DRAWN)]
        if not sent and model.bundle.golden:
            for case in model.bundle.golden.cases:
                body = base64.b64decode(case.body_b64)
                sent = sent + (await parse_body(body, case.content_type, case.query, model.manifest.inputs, self._bodies)).instances
        return [instance.tensors for instance in await self._decoded(model, sent, seed)]

    async def _decoded(self, model: LoadedModel, sent: list[dict[str, Any]], seed: int) -> list[Instance]:
        return await self._serving.decode(model, draw_missing(model.manifest, sent, seed))

    async def _ask(
        self,
        operation: Operation,
        model: LoadedModel,
        tensors: Mapping[str, Array],
        parameters: Mapping[str, Any],
        seconds: float | None,
        caller: Caller,
    ) -> Studied:
        pool: Explainers | None = self._serving.pool
        if pool is None:
            raise NotExplainable("explanations are turned off on this server (WHYSERVE_EXPLAINERS=0)")
        return await pool.study(operation, model.name, model.version, model.bundle.model_sha256, tensors, parameters, seconds, caller)

    def _seconds(self, wanted: Parameters | LayerAttributionParameters) -> float | None:
        if wanted.timeout is not None and wanted.timeout > self._limits.timeout:
            most = f"{self._limits.timeout:g} seconds (setting WHYSERVE_TIMEOUT)"
            raise BadParameter(f"parameter 'timeout': expected at most {most}, got {wanted.timeout:g}")
        return wanted.timeout

    def _require_steps(self, name: str, steps: int | None) -> None:
        if steps is not None and self._limits.steps is not None and steps > self._limits.steps:
            raise BadParameter(f"parameter {name!r}: expected at most {self._limits.steps} (setting WHYSERVE_MAX_STEPS), got {steps}")


def _blank(model: LoadedModel) -> Rows:
    """Zeros, for a model whose inputs are all to be drawn. Raises BadInput where one is not."""
    declared = model.graph_inputs
    if len(declared) > 1 or None in declared[0].shape:
        raise BadInput("the bundle holds no example instance: send one, whose inputs beside the one that is drawn are kept")
    return {declared[0].name: np.zeros([size or 1 for size in declared[0].shape], declared[0].dtype)}


def _blocks(instances: list[Instance]) -> list[Block]:
    return list(blocks_of([instance.tensors for instance in instances], len(instances)))


def _joined(found: list[Studied], blocks: list[Block]) -> Studied:
    """The rows in the request's order."""
    return Studied(found[0].fields, tuple(in_order(blocks, [one.rows for one in found])))

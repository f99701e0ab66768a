"""The bundle loaded and asked as the server does, without HTTP: the golden requests, and the instances that they hold."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from service.api.bodies import BodyLimits, parse_body
from service.codecs.instance import Limits
from service.engine.precedence import Precedence
from service.explain.methods.request import Limits as ExplainLimits
from service.explanations.cache import Cache
from service.explanations.shared import Shared
from service.generation import rows_to_generate
from service.lifecycle import Lifecycle
from service.manifest import GoldenCase
from service.parameters import GenerateParameters, check
from service.repository.bundle import Bundle
from service.repository.loaded import LoadedModel, Loader
from service.repository.registry import Registry
from service.serving import Serving
from service.settings import Settings
from service.telemetry import Metrics
from service.verifying.report import Check, State

Row = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Served:
    checks: tuple[Check, ...]
    model: LoadedModel | None
    """None where it can't be served."""
    rows: Sequence[Row]
    """The golden requests' instances: tensors without batch axis by graph input."""


async def served(bundle: Bundle) -> Served:
    """Loads the bundle and answers its golden requests."""
    settings = Settings.model_construct()
    limits = BodyLimits(settings.max_body_bytes, settings.max_instances)
    decoding = Limits(settings.max_pixels, settings.max_characters, settings.max_instances, settings.max_sound_samples)
    metrics = Metrics()
    serving = Serving(
        Registry(),
        None,
        Shared(Cache(0, metrics), metrics),
        metrics,
        Precedence(),
        at_once=1,
        decoding_bytes=settings.max_decoding_mib * 2**20,
        max_instances=settings.max_instances,
        limits=ExplainLimits(settings.timeout),
        later=ExplainLimits(settings.timeout),
    )
    with ThreadPoolExecutor(1) as executor:
        loader = Loader("cpu", 1, decoding, executor, metrics)
        lifecycle = Lifecycle(serving, loader, limits, metrics, bundle.location.folder, bundle.location.name)
        entry = await lifecycle.load(bundle.location)
    if entry.model is None:
        return Served((Check("golden", State.FAILED, f"the server refuses it: {entry.reason}"),), None, ())
    cases = entry.model.bundle.golden.cases if entry.model.bundle.golden else ()
    if not cases:
        return Served((Check("golden", State.NOTE, "it loads; there are no golden requests to hold it against"),), entry.model, ())
    words = f"it loads, and {len(cases)} golden requests are answered as what trained the model answers them"
    rows = [row for case in cases for row in await _rows(entry.model, case, limits)]
    return Served((Check("golden", State.GOOD, words),), entry.model, rows)


async def _rows(model: LoadedModel, case: GoldenCase, limits: BodyLimits) -> list[Row]:
    generates = case.verb == "generate"
    body = base64.b64decode(case.body_b64)
    parsed = await parse_body(body, case.content_type, case.query, model.manifest.inputs, limits, may_be_none=generates)
    if generates:
        return rows_to_generate(model.manifest, parsed.instances, check(GenerateParameters, parsed.parameters))
    return [model.decoder.decode(instance).tensors for instance in parsed.instances]

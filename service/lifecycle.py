"""From bundles on disk to ready models: load, warm up with the golden requests, enter the outcome."""

from __future__ import annotations

import asyncio
import base64
import logging
import math
from pathlib import Path
from typing import Any

from service.api.bodies import BodyLimits, parse_body
from service.errors import WhyserveError
from service.manifest import GoldenCase
from service.parameters import GenerateParameters, PredictParameters, check
from service.repository.bundle import BadBundle, Location, find_bundles, read_bundle
from service.repository.loaded import LoadedModel, Loader
from service.repository.registry import Entry
from service.serving import Serving
from service.telemetry import Metrics

log = logging.getLogger("whyserve")


class Lifecycle:
    """Fills the registry. A bundle that is refused keeps its reason and never stops the others."""

    def __init__(self, serving: Serving, loader: Loader, limits: BodyLimits, metrics: Metrics, root: Path, single_name: str | None) -> None:
        self._root = root
        self._single_name = single_name
        self._serving = serving
        self._loader = loader
        self._limits = limits
        self._metrics = metrics

    async def load_all(self) -> None:
        """Every bundle on disk, one after the other. Raises BadBundle where the repository can't be read."""
        locations = find_bundles(self._root, self._single_name)
        for location in locations:
            self._serving.registry.put(Entry(location, "LOADING"))
        for location in locations:
            await self.load(location)
        self._serving.registry.settled = True

    async def load_named(self, name: str) -> list[Entry]:
        """Every version of a model that is on disk now; versions that have gone from disk are forgotten."""
        locations = [location for location in find_bundles(self._root, self._single_name) if location.name == name]
        entries = [await self.load(location) for location in locations]
        if entries:
            self._serving.registry.entries[name] = {entry.location.version: entry for entry in entries}
        return entries

    def unload_named(self, name: str) -> None:
        """Takes a model out of service; requests that run keep it until they are answered. Raises NotFound."""
        self._serving.registry.entry(name)
        for entry in list(self._serving.registry.entries[name].values()):
            self._metrics.model_state.labels(name, str(entry.location.version)).set(0)
            self._serving.registry.put(Entry(entry.location, "UNAVAILABLE", "unloaded"))

    async def load(self, location: Location) -> Entry:
        """One version, loaded and warmed up or refused; the entry that says which."""
        try:
            model = await asyncio.to_thread(lambda: self._loader.load(read_bundle(location)))
            await self._warm_up(model)
            entry = Entry(location, "READY", model=model)
        except WhyserveError as error:
            log.error("model %s version %s refused: %s", location.name, location.version, error)
            entry = Entry(location, "UNAVAILABLE", str(error))
        except Exception:
            log.exception("model %s version %s refused", location.name, location.version)
            entry = Entry(location, "UNAVAILABLE", "loading failed; the server's log says why")
        self._metrics.model_state.labels(location.name, str(location.version)).set(entry.state == "READY")
        self._serving.registry.put(entry)
        return entry

    async def _warm_up(self, model: LoadedModel) -> None:
        """Answers the golden requests as a client's would be; raises BadBundle where an answer isn't the expected one."""
        for number, case in enumerate(model.bundle.golden.cases if model.bundle.golden else ()):
            try:
                answers = await self._answer(model, case)
            except WhyserveError as error:
                raise BadBundle(f"golden request {number} fails: {error}") from None
            difference = _difference(case.expected, answers, case.tolerance)
            if difference:
                raise BadBundle(f"golden request {number} is answered differently: {difference}")

    async def _answer(self, model: LoadedModel, case: GoldenCase) -> list[Any]:
        body = base64.b64decode(case.body_b64)
        parsed = await parse_body(
            body, case.content_type, case.query, model.manifest.inputs, self._limits, may_be_none=case.verb == "generate"
        )
        if case.verb == "predict":
            return await self._serving.predict(model, parsed.instances, check(PredictParameters, parsed.parameters))
        made = await self._serving.generate(model, parsed.instances, check(GenerateParameters, parsed.parameters))
        return [{name: array.tolist() for name, array in (one.inputs | one.outputs).items()} for one in made]


def _difference(expected: Any, got: Any, tolerance: float, where: str = "answer") -> str:
    """Where two JSON values differ, in words; empty where they agree. Fields that only `got` has aren't compared."""
    if isinstance(expected, dict) and isinstance(got, dict):
        pairs = [(f"{where}.{key}", value, got.get(key)) for key, value in expected.items()]
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        pairs = [(f"{where}[{k}]", e, g) for k, (e, g) in enumerate(zip(expected, got, strict=True))]
    elif isinstance(expected, int | float) and isinstance(got, int | float) and not isinstance(expected, bool):
        agree = math.isclose(expected, got, rel_tol=tolerance, abs_tol=tolerance)
        return "" if agree else f"{where} is {got!r}, expected {expected!r}"
    else:
        return "" if expected == got else f"{where} is {str(got)[:80]!r}, expected {str(expected)[:80]!r}"
    return next((found for name, e, g in pairs if (found := _difference(e, g, tolerance, name))), "")

"""Trust figures of every method that a model supports, on test pictures, sentences and wines of the real datasets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.samples import digits, sentences
from bench.table import markdown
from service.codecs.instance import InstanceDecoder, Limits
from service.explain.cancel import Token
from service.explain.explainer import explain
from service.explain.loading import load
from service.explain.methods import resolve
from service.explain.methods.listing import supported
from service.explain.subject import Subject
from service.repository.bundle import Location, read_bundle
from service.settings import Settings

_COUNT = int(os.environ.get("TRUST_INSTANCES", "30"))
"""Instances a model; the variable is for a quick look."""
_SECONDS, _MEMORY = 60.0, 64 * 2**20
_HEADER = (
    "method",
    "trustworthy",
    "with care",
    "not",
    "completeness error",
    "foretold",
    "beyond chance",
    "deletion",
    "insertion",
    "random",
    "sensitivity",
    "seconds",
)
_NOTE = f"""Medians over {_COUNT} test instances; every figure of the served model in ONNX Runtime. *trustworthy*, *with care*, *not*:
verdicts, in per cent. *foretold*: 1 - infidelity, of methods that only rank or give slopes with the best common factor.
*beyond chance*: insertion's area minus deletion's, in standard deviations of random orders. *seconds*: one explanation without its
figures."""


@dataclass(frozen=True, slots=True)
class _Judged:
    verdict: str
    quality: Mapping[str, Any]
    measures: str
    seconds: float

    @property
    def foretold(self) -> float | None:
        error = self.quality["infidelity" if self.measures == "share" else "infidelity_scaled"]
        return None if error is None else 1 - error

    def area(self, curve: str, name: str) -> float | None:
        found = self.quality[curve]
        return None if found is None else float(found[name])


def report() -> str:
    """A table a model: one row a method."""
    parts = [_NOTE]
    for model, sent in (("mnist-cnn", digits(_COUNT)), ("sst2-gru", sentences(_COUNT)), ("wine-mlp", _wines(_COUNT))):
        subject, feeds = _subject(model, sent)
        rows = [_row(name, list(_judged(subject, name, feeds))) for name in [m.name for m in supported(subject.manifest, subject.status)]]
        parts.append(f"**{model}**\n\n" + markdown(_HEADER, rows))
    return "\n\n".join(parts)


def _wines(count: int) -> list[list[float]]:
    from training.datasets import load_wine

    return [row.tolist() for row in load_wine().test.values[:count]]


def _subject(name: str, sent: list[Any]) -> tuple[Subject, list[dict[str, Any]]]:
    bundle = read_bundle(Location(name, 1, Path("models") / name / "1"))
    assert bundle.manifest is not None
    settings = Settings.model_construct()
    limits = Limits(settings.max_pixels, settings.max_characters, settings.max_instances)
    decoder = InstanceDecoder(bundle.manifest, bundle.location.folder, limits)
    first = bundle.manifest.inputs[0].name
    rows = [decoder.decode({first: one}).tensors for one in sent]
    return load(bundle), [{name: np.asarray(tensor)[None] for name, tensor in row.items()} for row in rows]


def _judged(subject: Subject, method: str, instances: list[dict[str, Any]]) -> Iterator[_Judged]:
    request = resolve(subject.manifest, {"method": method, "quality": True})
    for feeds in instances:
        (found,) = explain(subject, request, feeds, Token(_SECONDS), _MEMORY).explanations
        measures = request.method.measures(request.parameters)
        yield _Judged(found.fields["verdict"], found.fields["quality"], measures, found.fields["seconds"])


def _row(name: str, judged: list[_Judged]) -> tuple[object, ...]:
    heads = [one.verdict.partition(".")[0] for one in judged]
    shares = (round(100 * heads.count(head) / len(heads)) for head in ("Trustworthy", "To be taken with care", "Not trustworthy"))
    return (
        name,
        *shares,
        _median([one.quality["completeness_error"] for one in judged]),
        _median([one.foretold for one in judged]),
        _median([one.quality["beyond_chance"] for one in judged]),
        _median([one.area("deletion", "area") for one in judged]),
        _median([one.area("insertion", "area") for one in judged]),
        _median([one.area("deletion", "random_area") for one in judged]),
        _median([one.quality["sensitivity_max"] for one in judged]),
        _median([one.seconds for one in judged]),
    )


def _median(values: list[float | None]) -> object:
    known = [value for value in values if value is not None]
    return f"{np.median(known):.2g}" if known else "-"

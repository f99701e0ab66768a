"""Resident memory of the serving process and of the explainer, after default explanations of every bundle."""

from __future__ import annotations

import base64

import httpx
import psutil

from bench.servers import MODELS, serving
from bench.table import markdown
from service.manifest import Golden, Manifest

_EXPLANATIONS = 100
_MIB = 2**20
_SENTENCE = "the film is a slow , quiet and oddly moving story that never quite finds its ending ."


def report() -> str:
    """A table: MiB after start, after 100 default explanations of each bundle, and at the end."""
    rows = []
    with serving(explainers=1) as server, httpx.Client(base_url=server.url, timeout=120) as client:
        rows.append(("started", _resident(server.process), "not yet started"))
        for manifest in _manifests():
            for number in range(_EXPLANATIONS):
                _explain(client, manifest, number)
            (explainer,) = server.explainers()
            rows.append((f"{_EXPLANATIONS} x {manifest.name}", _resident(server.process), _resident(explainer)))
    return "Resident memory, MiB, after .. (texts of 15 to 400 tokens)\n\n" + markdown(("after", "serving process", "explainer"), rows)


def _resident(process: psutil.Process) -> int:
    return round(process.memory_info().rss / _MIB)


def _manifests() -> list[Manifest]:
    return [Manifest.read(path.parent) for path in sorted(MODELS.glob("*/*/model.yaml"))]


def _explain(client: httpx.Client, manifest: Manifest, number: int) -> None:
    body, content_type, query = _request(manifest, number)
    response = client.post(f"/v1/models/{manifest.name}:explain", content=body, headers={"content-type": content_type}, params=query)
    if response.status_code != 200:
        raise RuntimeError(f"{manifest.name}: {response.text[:300]}")


def _request(manifest: Manifest, number: int) -> tuple[bytes, str, dict[str, str]]:
    """The bundle's golden requests in turn; texts of every length up to 400 tokens."""
    if manifest.inputs[0].codec == "text":
        words = (_SENTENCE.split() * 30)[: 15 + 385 * number // (_EXPLANATIONS - 1)]
        return " ".join(words).encode(), "text/plain", {}
    cases = [case for case in Golden.read(MODELS / manifest.name / str(manifest.version)).cases if case.verb == "predict"]
    case = cases[number % len(cases)]
    return base64.b64decode(case.body_b64), case.content_type, case.query

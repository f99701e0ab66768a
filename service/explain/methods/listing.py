"""Which methods a model supports, from its manifest and from what is known of its twin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from service.errors import NotExplainable, ParityRefused
from service.explain.methods.method import Method
from service.explain.methods.table import DEFAULT, METHODS
from service.explain.status import TwinStatus
from service.manifest import Manifest


def refusal(method: Method, status: TwinStatus) -> str:
    """Why this model's twin can't carry this method; empty where it can."""
    if not method.needs_twin:
        return ""
    return status.reason or status.refused.get(method.name, "")


def require(method: Method, status: TwinStatus) -> None:
    """Raises ParityRefused or NotExplainable where this model's twin can't carry this method."""
    reason = refusal(method, status)
    if not reason:
        return
    others = [m.name for m in METHODS.values() if not refusal(m, status)]
    message = f"{method.title} needs {_needed(method)}, and {reason}; methods that this model supports: {', '.join(others) or 'none'}"
    if status.beyond_parity:
        raise ParityRefused(message)
    raise NotExplainable(message)


def _needed(method: Method) -> str:
    return "the model's layers" if "modules" in method.needs else "gradients"


def supported(manifest: Manifest, status: TwinStatus | None = None) -> Iterator[Method]:
    """The methods that this model supports. `status` is what the explainer found out about the model's twin; None where it
    hasn't been asked yet. Methods that need a reference set are there where the bundle has one."""
    has_reference = manifest.explain is not None and manifest.explain.reference is not None
    has_picture = any(entry.image for entry in manifest.inputs)
    for method in METHODS.values():
        if status is not None and refusal(method, status):
            continue
        if "picture" in method.needs and not has_picture:
            continue
        if "reference" not in method.needs or has_reference:
            yield method


def available(manifest: Manifest, status: TwinStatus | None = None) -> list[dict[str, Any]]:
    """What `GET /v1/models/{name}/methods` lists: each method that this model supports, parameters as JSON Schema."""
    default = manifest.explain.method if manifest.explain else DEFAULT
    return [
        {
            "name": method.name,
            "title": method.title,
            "default": method.name == default,
            "needs": sorted(method.needs),
            "promises": sorted(method.promises),
            "rows": method.rows(method.parameters()),
            "paper": method.paper,
            "parameters": method.parameters.model_json_schema(),
        }
        for method in supported(manifest, status)
    ]

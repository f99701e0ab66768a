"""All checks of a bundle, in an order in which each can rely on those before it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from service.errors import BadBundle, NotFound
from service.repository.bundle import Location, find_bundles, read_bundle
from service.verifying.report import Check, Report, State
from service.verifying.serving import Served, served


def verified(models: Path, name: str, version: int | str | None, n: int) -> Report:
    """The report of one version, the highest by default; `n` of its instances are explained. Raises NotFound and BadBundle (no
    such repository)."""
    location = _location(models, name, version)
    return Report(location.name, location.version, tuple(_checks(location, n)))


def _location(models: Path, name: str, version: int | str | None) -> Location:
    there = [location for location in find_bundles(models, name) if location.name == name]
    if not there:
        others = sorted({location.name for location in find_bundles(models)})
        raise NotFound(f"no model named {name!r} in {str(models)!r}; there are: {', '.join(others) or 'none'}")
    found = [location for location in there if version is None or str(location.version) == str(version)]
    if not found:
        raise NotFound(f"model {name!r} has no version {version}; there are: {', '.join(str(at.version) for at in there)}")
    return max(found, key=lambda at: at.version)


def _checks(location: Location, n: int) -> Iterator[Check]:
    try:
        bundle = read_bundle(location)
    except BadBundle as error:
        yield Check("files", State.FAILED, str(error))
        return
    if bundle.manifest is None:
        yield Check("files", State.NOTE, "a bare model.onnx: no manifest, so tensors in and out")
    else:
        files = ", ".join(sorted(bundle.manifest.files))
        yield Check("files", State.GOOD, f"the manifest is valid, and {files} are the files it names (sha256)")
    with_onnx = find_spec("onnx") is not None
    if with_onnx:
        from service.verifying.graph import graph_checks

        yield from graph_checks(bundle)
    else:
        yield Check("graph", State.SKIPPED, "the package onnx isn't installed (extra 'explain')")
    found = asyncio.run(served(bundle))
    yield from found.checks
    if found.model is not None:
        yield from _explanations(found, n, with_onnx)


def _explanations(found: Served, n: int, with_onnx: bool) -> Iterator[Check]:
    if not with_onnx or find_spec("torch") is None or find_spec("captum") is None:
        yield Check("explanations", State.SKIPPED, "torch, captum and onnx aren't all installed (extra 'explain')")
        return
    from service.verifying.explanations import explanation_checks

    assert found.model is not None
    yield from explanation_checks(found.model, found.rows, n)

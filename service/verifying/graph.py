"""The graph itself: what the onnx checker says, and whether rows keep to themselves as the manifest claims."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from service.adding.refused import NotAdded
from service.adding.source import read_model
from service.adding.trial import agree
from service.engine.session import Session
from service.errors import WhyserveError
from service.explain.trial import trial_inputs
from service.repository.bare import bare_manifest
from service.repository.bundle import Bundle
from service.verifying.report import Check, State

ROWS = 3


def graph_checks(bundle: Bundle) -> Iterator[Check]:
    try:
        model = read_model(bundle.model_file)
    except NotAdded as error:
        yield Check("graph", State.FAILED, str(error))
        return
    opsets = ", ".join(f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in model.opset_import)
    yield Check("graph", State.GOOD, f"the onnx checker finds no fault ({len(model.graph.node)} nodes, opset {opsets})")
    try:
        session = Session(bundle.model_file, device="cpu", threads=1)
        manifest = bundle.manifest or bare_manifest(bundle, session)
        feeds = trial_inputs(manifest, session.inputs, model, ROWS)
        together = session.run(feeds)
        alone = [session.run({name: array[i : i + 1] for name, array in feeds.items()}) for i in range(ROWS)]
    except WhyserveError as error:
        yield Check("rows", State.SKIPPED, f"trial inputs of {ROWS} rows and of one don't both run: {error}")
        return
    same = all(
        array.ndim and len(array) == ROWS and agree(np.asarray(array[i : i + 1]), np.asarray(one))
        for i in range(ROWS)
        for array, one in zip(together, alone[i], strict=True)
    )
    claimed = manifest.batching.rows_independent
    if same:
        note = "" if claimed else ", though the manifest doesn't say so: requests don't share a batch"
        yield Check("rows", State.GOOD, f"a row's answer is the same alone and among others{note}")
    else:
        words = "a row's answer depends on the rows beside it"
        yield Check("rows", State.FAILED if claimed else State.NOTE, f"{words}{', and the manifest says it does not' if claimed else ''}")

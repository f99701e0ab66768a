"""Makes a bundle's model ready to be explained: builds its twin, tries it, and measures how it is explained fastest."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from service.engine.session import Session
from service.errors import BadBundle, WhyserveError
from service.explain.attribution.found import Untrusted
from service.explain.attribution.path import vectors as path_vectors
from service.explain.attribution.problem import Problem
from service.explain.cancel import Token
from service.explain.carry import OBSTACLES, maps_onto, obstacle, uses
from service.explain.case import Case
from service.explain.course import CELLS, INSTANCES, LARGE, OF_LARGE, Course, calls_in_rows, turns
from service.explain.detect import attribute_at, ending
from service.explain.device import CPU, Device
from service.explain.gradient_graph import gradient_graph
from service.explain.lane import Lane
from service.explain.memory import trim
from service.explain.methods import find, require, resolve
from service.explain.pace import pace_of
from service.explain.parity import limit, parity_error
from service.explain.passes import Passes
from service.explain.reference_file import read
from service.explain.served import Served
from service.explain.status import TwinStatus
from service.explain.subject import DEFAULT_MEMORY, Subject
from service.explain.trial import trial_inputs, with_gradients
from service.explain.twin import BadGraph, UnsupportedOperators, build, fold
from service.explain.twin.placed import placed
from service.explain.twin.rebatch import rebatched
from service.explain.typical import typical_rows
from service.manifest import Manifest
from service.repository.bare import bare_manifest
from service.repository.bundle import Bundle

log = logging.getLogger("whyserve.explainer")
Arrays = Mapping[str, NDArray[Any]]
FLOATS = ("float16", "float32", "float64")
SIZES = (1, 3)
"""Batches at which a twin is tried."""
BATCHED = f"at batch {SIZES[-1]}"
STACKED = ("deep_lift", "deep_lift_shap")
"""Methods that put an instance and what it is compared with into one batch."""


def load(
    bundle: Bundle,
    token: Token | None = None,
    *,
    threads: int = 1,
    memory: int = DEFAULT_MEMORY,
    lane: Lane | None = None,
    device: Device = CPU,
) -> Subject:
    """Builds the twin of a bundle's model, tries it at batch 1 and 3, and measures how many rows, of at most `memory` bytes,
    a pass takes best and the course of its typical instances. Its passes take turns on `lane`. `token` is checked between the parts.

    A twin that `device` can't compute as it should is one on the CPU, and its status says so.
    A model without a twin is a subject too: its status says why. A bare model's discrete inputs are attributed where its graph
    shows them to become floats. Raises BadBundle where the model itself can't be run."""
    token = token or Token()
    token.check()
    model = onnx.load(bundle.model_file)
    location = bundle.location
    found = bundle.manifest or bare_manifest(bundle, Session(bundle.model_file, device="cpu", threads=threads))
    manifest = found.model_copy(update={"name": location.name, "version": location.version})
    subject = _on_device(model, manifest, threads, device, token)
    trials = [trial_inputs(manifest, subject.served.inputs, model, rows) for rows in SIZES]
    graph = gradient_graph(model, subject, threads, trials)
    del model
    trim()  # the file's copy of the weights, and others that building took, before the first passes take memory
    pace, reference = pace_of(subject, trials[0], memory, token, graph), read(location.folder, manifest)
    if pace.graph is not None:
        log.info("model %s: gradients by ONNX Runtime, %d rows a pass", manifest.name, pace.chunk)
    paced = replace(subject, chunk=pace.chunk, mixed=pace.mixed, mixed_from=pace.mixed_from, graph=pace.graph)
    made = replace(paced, passes=Passes(lane or Lane()), reference=reference)
    return replace(made, course=_course(made, memory, token))


def _course(subject: Subject, memory: int, token: Token) -> Course | None:
    """The course of the bundle's typical instances from the manifest's baseline. None where there are none, or no gradients."""
    inputs = {info.name for info in subject.served.inputs}
    method = find("integrated_gradients")
    if not subject.status.usable:
        return None
    request, found = resolve(subject.manifest, {"method": method.name}), []
    described, call = None, 0.0
    try:
        require(method, subject.status)
        for i, feeds in enumerate(typical_rows(subject.manifest, subject.reference, INSTANCES)):
            if set(feeds) != inputs:
                return None
            case = Case(subject, request, feeds, None, token, memory)
            if i >= OF_LARGE and case.bytes_a_row > LARGE:
                break
            found.append(turns(path_vectors(case, Problem.of(case), (np.arange(CELLS) + 0.5) / CELLS)))
            described = case.baseline.described
            call = calls_in_rows(len(subject.segment((case.scalar.tensor,)).program.steps), case.bytes_a_row)
    except (Untrusted, WhyserveError, RuntimeError, ValueError, IndexError, MemoryError):
        return None  # what typical instances can't tell, every explanation finds out itself
    return Course.of(described, found, call) if found else None


def _on_device(model: onnx.ModelProto, manifest: Manifest, threads: int, device: Device, token: Token) -> Subject:
    """The model on `device` where its twin passes there, else on the CPU."""
    if not device.on_gpu:
        return _said(_tried(model, manifest, threads, CPU, token), device.note)
    found = _on_gpu(model, manifest, threads, device, token)
    if isinstance(found, Subject):
        return _said(found, "")
    trim()  # what has been tried there, before the same is made here
    subject = _tried(model, manifest, threads, CPU, token)
    if not subject.status.usable:
        return _said(subject, "")  # it isn't for the device that it has none
    log.warning("model %s is explained on the CPU: on %s %s", manifest.name, device.place, found)
    return _said(subject, f"on {device.place} {found}")


def _on_gpu(model: onnx.ModelProto, manifest: Manifest, threads: int, device: Device, token: Token) -> Subject | str:
    """The model there, or why it can't be: memory, an operator or an element type that CUDA lacks, parity."""
    try:
        subject = _tried(model, manifest, threads, device, token)
    except (WhyserveError, RuntimeError) as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return subject.status.reason or subject


def _said(subject: Subject, note: str) -> Subject:
    return replace(subject, status=subject.status.model_copy(update={"device": str(subject.device.place), "device_note": note}))


def _tried(model: onnx.ModelProto, manifest: Manifest, threads: int, device: Device, token: Token) -> Subject:
    """The model as it stands or, where its twin doesn't take several rows, freed of a batch size that the export has baked in
    (the served model keeps it, its twin needn't), or else at one row a pass."""
    subject = _assembled(model, model, manifest, threads, device, token)
    if not (subject.status.beyond_parity or BATCHED in subject.status.problem):
        return subject
    for rebuilt, sizes in ((rebatched(model), SIZES), (model, SIZES[:1])):
        other = _assembled(model, rebuilt, manifest, threads, device, token, sizes)
        if other.status.usable:
            return other
    return subject


def _assembled(
    model: onnx.ModelProto,
    rebuilt: onnx.ModelProto,
    manifest: Manifest,
    threads: int,
    device: Device,
    token: Token,
    sizes: tuple[int, ...] = SIZES,
) -> Subject:
    """The subject whose twin is made from `rebuilt`, tried against the served `model` at batches of these sizes."""
    token.check()
    try:
        faithful = build(rebuilt)
    except BadGraph as error:
        raise BadBundle(f"the graph can't be read: {error}") from None
    if device.on_gpu:
        faithful = placed(faithful, device.place)
    declared = dict(manifest.explain.attribute_at) if manifest.explain else attribute_at(model)
    inputs = {entry.name: entry for entry in manifest.inputs}
    at = {name: declared.get(name, name) for name in inputs if name in declared or inputs[name].dtype in FLOATS}
    also = tuple(n for n in faithful.segment(tuple(at.values()), faithful.output_names).input_names if n not in at.values())
    logits = _logits(model, manifest)
    token.check()
    served = Served(
        model, [t for n, t in at.items() if t != n], [n for n in at if at[n] == n] + list(also), tuple(logits.values()), threads, device
    )
    token.check()
    twin = fold(faithful)
    weights = frozenset(p.untyped_storage().data_ptr() for p in (*twin.parameters(), *twin.buffers()))
    made = functools.partial(
        Subject, manifest, served, twin, faithful, at=at, others=also, logits=logits, weights=weights, segments={}, device=device
    )
    untried = made(status=TwinStatus(parity_error=None, parity_limit=limit(model)))
    return made(status=_try_out(model, untried, sizes, token))


def _logits(model: onnx.ModelProto, manifest: Manifest) -> dict[str, str]:
    """Outputs that a Softmax or Sigmoid makes, with its input."""
    ends = {o.name: ending(model.graph, o.name) for o in manifest.outputs if o.activated}
    return {name: end.before for name, end in ends.items() if end is not None}


def _try_out(model: onnx.ModelProto, subject: Subject, sizes: tuple[int, ...], token: Token) -> TwinStatus:
    served, twin = subject.served, subject.twin
    gaps = tuple(dict.fromkeys(gap.operator for gap in twin.gradient_gaps))
    status = TwinStatus(
        parity_error=None, parity_limit=limit(model), gradient_gaps=gaps, straight_through=tuple(dict.fromkeys(twin.straight_through))
    )
    if not subject.at:
        return status.model_copy(update={"problem": "none of the model's inputs is a float, and explain.attribute_at names no tensor"})
    if subject.segment(twin.output_names).unsupported:
        return status.model_copy(update={"unsupported": subject.segment(twin.output_names).unsupported})
    errors, reached = [], set()
    for rows in sizes:
        token.check()
        feeds = trial_inputs(subject.manifest, served.inputs, model, rows)
        try:
            ran = served.run(feeds)
        except WhyserveError:
            continue  # what random inputs can't tell, every explanation checks again
        try:
            got, gradients = with_gradients(subject, feeds, ran)
        except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError, UnsupportedOperators) as error:
            return status.model_copy(
                update={"problem": f"the model's twin fails at batch {rows}: {type(error).__name__}: {str(error)[:200]}"}
            )
        errors.append(parity_error(got, {name: ran[name] for name in subject.outputs}))
        reached |= {name for name, gradient in gradients.items() if gradient is not None}
    missing = tuple(name for name in subject.at if name not in reached) if errors else ()
    update: dict[str, Any] = {"parity_error": max(errors, default=None), "no_gradient": missing}
    update["refused"] = _refused(subject)
    if update.setdefault("one_row", sizes != SIZES):
        update["refused"] |= dict.fromkeys(STACKED, "the graph takes one row at a time")
    if errors and not reached:
        update["problem"] = "no gradient of its outputs reaches any input" + (f" (operators in numpy: {', '.join(gaps)})" if gaps else "")
    return status.model_copy(update=update)


def _refused(subject: Subject) -> dict[str, str]:
    """Methods by hooks that can't be had of the first output, each with the reason."""
    output = subject.outputs[0]
    segment = subject.segment((subject.logits.get(output, output),), form="faithful")
    path = uses(segment, tuple(subject.at.values()))
    refused = {method: reason for method in OBSTACLES if (reason := obstacle(method, path))}
    if not maps_onto(path, [entry for entry in subject.manifest.inputs if entry.name in subject.at]):
        reason = "in this model's graph no convolution has maps with the axes of an input, such as a picture's height and width"
        refused = {"grad_cam": reason, "guided_grad_cam": reason} | refused
    return refused

"""From a file and what its user says of it to a bundle and a report: `added`, the one function of this package for others."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from service.adding import batch, inputs, outputs, places, trial
from service.adding.checks import Explainable, check_loads, explainable
from service.adding.draft import Draft
from service.adding.folder import partial_folder, put_in_place, version_for
from service.adding.golden import golden_of
from service.adding.outputs import Described
from service.adding.refused import NotAdded
from service.adding.report import Report
from service.adding.rewrite import without_zipmap
from service.adding.source import read_model
from service.adding.trial import Trial
from service.adding.wishes import Wishes
from service.adding.wording import TOKENIZER_FILE
from service.explain.detect import attributes
from service.manifest import (
    MODEL_FILE,
    Baseline,
    Batching,
    Explain,
    Golden,
    Input,
    Manifest,
    Provenance,
    sha256_of,
)
from service.repository.bundle import Location, read_bundle

REFERENCE_FILE = "reference.npz"
_MOST_ROWS = 32
_WITHOUT_GRADIENTS = ("shapley_value_sampling", "kernel_shap", "feature_ablation", "occlusion")
"""What explains a model without gradients by default, the first that there is."""


@dataclass(frozen=True, slots=True)
class _Found:
    """All that was found out about a model."""

    draft: Draft
    batch: int | None
    trial: Trial
    described: Described
    at: Mapping[str, str]


def added(wishes: Wishes, with_twin: bool) -> str:
    """Makes the bundle (with `dry_run` only all that comes before) and returns the report for the terminal.

    `with_twin`: whether torch and Captum are installed. Raises NotAdded, and BadBundle where ONNX Runtime refuses the model.
    """
    version = version_for(wishes)
    found = _found(read_model(wishes.file), wishes)
    with partial_folder(wishes) as partial:
        manifest = _written(partial, found, wishes, version)
        bundle = read_bundle(Location(wishes.name, version, partial))
        check_loads(bundle)
        checked: Explainable = explainable(bundle, manifest, with_twin)
        manifest = _with_method(manifest, checked, partial)
        folder = wishes.models / wishes.name / str(version)
        if not wishes.dry_run:
            put_in_place(partial, wishes, version)
    draft = found.described.draft
    return Report(manifest, checked, found.trial, draft.changes, draft.notes, folder, wishes.dry_run).text()


def _found(model: onnx.ModelProto, wishes: Wishes) -> _Found:
    plain, labels = without_zipmap(model)
    draft = Draft(model)
    if labels:
        draft = draft.changed(
            plain, f"ZipMap removed: {', '.join(map(repr, labels))} is a tensor of scores, the labels are in the manifest"
        )
    draft = inputs.described(outputs.tensors_only(draft), wishes)
    draft, fixed = batch.with_free_batch(draft)
    tried = trial.tried(draft, fixed)
    if tried.problem:
        draft = draft.noted(f"no trial input was taken, so nothing could be measured: {tried.problem}")
    draft = _with_missing(draft, tried, wishes)
    described = outputs.described(draft, tried, labels, wishes)
    draft, at = places.found(described.draft, tried, wishes)
    described = Described(described.outputs, described.task, described.explained, draft)
    return _Found(draft, fixed, tried, described, at)


def _with_missing(draft: Draft, tried: Trial, wishes: Wishes) -> Draft:
    """`allow_missing` where the user says so, or where trees were trained for it; only where the answers stay numbers."""
    trained = any(any(attributes(node).get("nodes_missing_value_tracks_true", ())) for node in draft.model.graph.node)
    if wishes.allow_missing is None and not trained and any(node.op_type.startswith("TreeEnsemble") for node in draft.model.graph.node):
        draft = draft.noted("missing values are refused; where the trees were trained with some, --allow-missing lets them in")
    if wishes.allow_missing is False or not (wishes.allow_missing or trained):
        return draft
    described = []
    for declared in draft.inputs:
        fits = declared.dtype in ("float16", "float32", "float64") and declared.codec in ("table", "tensor")
        if fits and tried.feeds and trial.survives_missing(draft, tried, declared.name):
            why = "--allow-missing" if wishes.allow_missing else "its trees have a branch for missing values"
            draft = draft.noted(f"input {declared.name!r} takes missing values (null in JSON, NaN): {why}")
            declared = declared.model_copy(update={"allow_missing": True})
        elif wishes.allow_missing and fits:
            raise NotAdded(f"--allow-missing: with a missing value in input {declared.name!r} the model answers NaN")
        described.append(declared)
    return replace(draft, inputs=tuple(described))


# ------------------------------------------------------------------------------------------------------- the bundle


def _written(folder: Path, found: _Found, wishes: Wishes, version: int) -> Manifest:
    """Model, manifest and what belongs to it, in `folder`."""
    (folder / MODEL_FILE).write_bytes(found.draft.model.SerializeToString(deterministic=True))
    if wishes.tokenizer is not None and any(declared.text for declared in found.draft.inputs):
        (folder / TOKENIZER_FILE).write_bytes(wishes.tokenizer.read_bytes())
    if wishes.reference is not None:
        _write_reference(folder / REFERENCE_FILE, wishes.reference, found.draft.inputs)
    golden = golden_of(found.draft.inputs, found.described.outputs, found.trial)
    if golden is not None:
        golden.write(folder)
        Golden.read(folder)
    manifest = _manifest(found, wishes, version, {path.name: sha256_of(path) for path in sorted(folder.iterdir())})
    manifest.write(folder)
    return manifest


def _manifest(found: _Found, wishes: Wishes, version: int, files: dict[str, str]) -> Manifest:
    independent = bool(found.trial.independent) and found.trial.deterministic
    explain = Explain(
        output=found.described.explained,
        attribute_at=dict(found.at),
        baseline=_baselines(found.draft.inputs, found.at),
        reference=REFERENCE_FILE if REFERENCE_FILE in files else None,
    )
    return Manifest(
        name=wishes.name,
        version=version,
        title=wishes.title,
        description="Added from an ONNX file with whyserve add."
        + ("" if not found.draft.changes else " The graph was changed; see below."),
        task=found.described.task,
        inputs=found.draft.inputs,
        outputs=found.described.outputs,
        batching=Batching(max=found.batch or _MOST_ROWS, rows_independent=independent),
        explain=explain,
        provenance=Provenance(
            recipe=f"whyserve add {wishes.file.name}",
            versions={"python": platform.python_version(), "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
            | {"numpy": installed("numpy")},
            hyperparameters={f"change {number}": words for number, words in enumerate(found.draft.changes, 1)},
        ),
        files=files,
    )


def _with_method(manifest: Manifest, checked: Explainable, folder: Path) -> Manifest:
    """The manifest, written anew, with a default method that this model supports."""
    assert manifest.explain is not None
    if not checked.methods or manifest.explain.method in checked.methods:
        return manifest
    method = next((name for name in _WITHOUT_GRADIENTS if name in checked.methods), checked.methods[0])
    changed = manifest.model_copy(update={"explain": manifest.explain.model_copy(update={"method": method})})
    changed.write(folder)
    return changed


def _baselines(declared: tuple[Input, ...], at: Mapping[str, str]) -> dict[str, Baseline]:
    """Of a text its padding token; everything else starts from zero, which needs no saying."""
    return {i.name: Baseline(kind="token", value=float(i.text.pad_id)) for i in declared if i.text and i.name in at}


def _write_reference(path: Path, source: Path, declared: tuple[Input, ...]) -> None:
    """The reference set, checked against the inputs. Raises NotAdded."""
    try:
        with np.load(source, allow_pickle=False) as file:
            arrays: dict[str, NDArray[Any]] = dict(file)
    except (OSError, ValueError, EOFError) as error:
        raise NotAdded(f"--reference {str(source)!r} can't be read: {error}; expected a .npz file of arrays by input name") from None
    names = {i.name: i for i in declared}
    if set(arrays) != set(names):
        raise NotAdded(f"--reference: the arrays are {sorted(arrays)}, the inputs {sorted(names)}")
    if len({len(array) for array in arrays.values() if array.ndim}) != 1:
        raise NotAdded("--reference: every array must hold the same number of instances")
    for name, array in arrays.items():
        wanted = names[name].shape
        fits = array.ndim == len(wanted) + 1 and all(w in (None, g) for w, g in zip(wanted, array.shape[1:], strict=True))
        if not fits or (array.dtype.kind == "f") != (np.dtype(names[name].dtype).kind == "f"):
            shown = f"{names[name].dtype} [instances, {', '.join('any' if s is None else str(s) for s in wanted)}]"
            raise NotAdded(f"--reference: array {name!r} is {array.dtype} {list(array.shape)}, expected {shown}")
    kept: dict[str, Any] = {name: array.astype(names[name].dtype) for name, array in arrays.items()}
    np.savez(path, **kept)

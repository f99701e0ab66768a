"""A model tried in ONNX Runtime on plausible inputs: what it answers, whether its rows keep to themselves, what NaN does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from service.adding.draft import Draft, session
from service.adding.refused import NotAdded
from service.codecs.instance import graph_inputs
from service.engine.running import TensorInfo
from service.engine.session import Session
from service.errors import ModelFailed
from service.explain.trial import trial_inputs
from service.manifest import MODEL_FILE, Input, Manifest, Output

Array = NDArray[Any]
Arrays = Mapping[str, Array]
ROWS = 3
LENGTHS = (7, 32, 128, 1024, 16000)
"""What sizes that vary are set to, until the model takes one."""
LARGEST = 256 * 2**20
"""Bytes of one row's inputs that are tried."""
_CLOSE = 1e-4


@dataclass(frozen=True, slots=True)
class Trial:
    """What three rows gave: `feeds` and `ran` by name, each (3, ..); with a fixed batch size so many rows instead."""

    feeds: Arrays
    ran: Arrays
    problem: str = ""
    """Why nothing could be run; the arrays are empty then."""
    deterministic: bool = True
    independent: bool | None = None
    """Whether a row's answer is the same alone and among others; None where it couldn't be measured."""


def tried(draft: Draft, batch: int | None) -> Trial:
    """`batch` is the graph's fixed batch size. Raises NotAdded where a row's declared size is beyond all measure."""
    with session(draft.model) as opened:
        names = [info.name for info in opened.outputs]
        feeds, ran, problem = _first_that_runs(draft, opened, batch or ROWS)
        if problem:
            return Trial({}, {}, problem)
        again = opened.run(feeds)
        same = all(agree(ran[name], array) for name, array in zip(names, again, strict=True))
        trial = Trial(feeds, ran, deterministic=same)
        if batch is None and same:
            trial = replace(trial, independent=_independent(opened, trial))
    return trial


def _first_that_runs(draft: Draft, opened: Session, rows: int) -> tuple[Arrays, Arrays, str]:
    manifest = provisional(draft.inputs, opened)
    declared = graph_inputs(manifest)
    _check_size(declared)
    problem = ""
    for length in LENGTHS if any(None in i.shape for i in declared) else LENGTHS[:1]:
        infos = [TensorInfo(i.name, i.dtype, (None, *(length if size is None else size for size in i.shape))) for i in declared]
        feeds = trial_inputs(manifest, infos, draft.model, rows)
        feeds |= {i.text.lengths: np.full(rows, length) for i in draft.inputs if i.text and i.text.lengths}
        try:
            return feeds, dict(zip([info.name for info in opened.outputs], opened.run(feeds), strict=True)), ""
        except ModelFailed as error:
            problem = problem or str(error)
    return {}, {}, problem


def _check_size(declared: Sequence[Input]) -> None:
    for entry in declared:
        size = int(np.prod([1 if s is None else s for s in entry.shape], dtype=np.float64))
        size *= 8 if entry.dtype == "string" else np.dtype(entry.dtype).itemsize
        if size > LARGEST:
            raise NotAdded(
                f"input {entry.name!r} claims {size / 2**20:.0f} MiB a row, beyond {LARGEST >> 20} MiB nothing is tried or served"
            )


def provisional(inputs: Sequence[Input], opened: Session) -> Manifest:
    """A manifest with these inputs and nothing known of the outputs."""
    return _stand_in(inputs, [info.name for info in opened.outputs])


def _stand_in(inputs: Sequence[Input], outputs: Sequence[str]) -> Manifest:
    files = [MODEL_FILE, *(i.text.tokenizer for i in inputs if i.text)]
    described = tuple(Output(name=name, kind="tensor", dtype="float32", shape=()) for name in outputs)
    return Manifest(name="trial", version=1, task="other", inputs=tuple(inputs), outputs=described, files=dict.fromkeys(files, "0" * 64))


def _independent(opened: Session, trial: Trial) -> bool | None:
    """f([a, b, c]) against f([a]), f([b]), f([c]). Raises nothing: None where a row alone fails."""
    try:
        alone = [opened.run({name: array[row : row + 1] for name, array in trial.feeds.items()}) for row in range(ROWS)]
    except ModelFailed:
        return False
    together = list(trial.ran.values())
    if any(array.ndim == 0 or len(array) != ROWS for array in together):
        return False
    return all(agree(array[row : row + 1], one) for row in range(ROWS) for array, one in zip(together, alone[row], strict=True))


def agree(one: Array, other: Array) -> bool:
    """Equal but for rounding, relative to the largest number; what isn't a float is equal altogether."""
    if one.shape != other.shape:
        return False
    if one.dtype.kind != "f":
        return bool((one == other).all())
    if not (np.isnan(one) == np.isnan(other)).all():
        return False
    scale = max(1.0, float(np.abs(other[np.isfinite(other)]).max(initial=0.0)))
    return bool(np.allclose(one, other, rtol=0, atol=_CLOSE * scale, equal_nan=True))


def with_rows_apart(draft: Draft, batch: int, freed: onnx.ModelProto) -> bool:
    """Whether `freed` answers rows in any number as the draft's model does in batches of `batch`."""
    with session(draft.model) as opened:
        feeds, ran, problem = _first_that_runs(draft, opened, batch)
        if problem:
            return False
        names = [info.name for info in opened.outputs]
        other = trial_like(draft, feeds, batch)
        ran_other = dict(zip(names, opened.run(other), strict=True))
    if any(array.ndim == 0 or len(array) != batch for array in ran.values()):
        return False
    both = {name: np.concatenate([array, other[name]]) for name, array in feeds.items()}
    try:
        with session(freed) as loose:
            free = dict(zip(names, loose.run(both), strict=True))
            alone = dict(zip(names, loose.run({name: array[:1] for name, array in both.items()}), strict=True))
    except Exception:  # a guess that ONNX Runtime doesn't even load
        return False
    wanted = {name: np.concatenate([ran[name], ran_other[name]]) for name in names}
    return all(agree(free[name], wanted[name]) and agree(alone[name], wanted[name][:1]) for name in names)


def trial_like(draft: Draft, feeds: Arrays, rows: int) -> dict[str, Array]:
    """Other inputs of the same shapes."""
    infos = [TensorInfo(name, _dtype(array), (None, *array.shape[1:])) for name, array in feeds.items()]
    manifest = _stand_in(draft.inputs, ["none"])
    return trial_inputs(manifest, infos, draft.model, rows, seed=1)


def _dtype(array: Array) -> str:
    return "string" if array.dtype.kind == "O" else str(array.dtype)


def survives_missing(draft: Draft, trial: Trial, name: str) -> bool:
    """Whether the answers stay numbers where one value of the input in each row is missing."""
    feeds = dict(trial.feeds)
    holed = feeds[name].copy()
    holed.reshape(len(holed), -1)[:, 0] = np.nan
    with session(draft.model) as opened:
        try:
            ran = opened.run({**feeds, name: holed})
        except ModelFailed:
            return False
    return all(np.isfinite(array).all() for array in ran if array.dtype.kind == "f")


def tensor_shapes(draft: Draft, trial: Trial, tensors: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The shapes (with batch axis) that tensors inside the graph have in the trial."""
    model = onnx.ModelProto()
    model.CopyFrom(draft.model)
    outputs = {o.name for o in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in outputs)
    with session(model) as opened:
        ran = dict(zip([info.name for info in opened.outputs], opened.run(trial.feeds), strict=True))
    return {name: ran[name].shape for name in tensors}

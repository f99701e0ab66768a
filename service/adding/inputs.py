"""Every input of a model described: as a picture, a text, a sound, a table or a plain tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from service.adding.draft import Draft, session
from service.adding.picture import as_picture, looks_like_picture
from service.adding.refused import NotAdded
from service.adding.rewrite import with_float_first, with_sizes
from service.adding.wishes import Codec, Wishes
from service.adding.wording import as_text
from service.engine.running import TensorInfo
from service.explain.detect import entries
from service.manifest import AudioPolicy, Column, Dtype, Input, TablePolicy

_NUMBERS = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_FLOATS = ("float16", "float32", "float64")
_LONGEST_SOUND = 30.0
"""Seconds, where neither the user nor the graph says."""
TABLE_OPERATORS = frozenset({"TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor", "LinearClassifier", "LinearRegressor"}) | {
    "SVMClassifier",
    "SVMRegressor",
    "Scaler",
    "Imputer",
}
"""Of ai.onnx.ml: what they read is a table."""


def described(draft: Draft, wishes: Wishes) -> Draft:
    """The draft with all inputs described, that of the modality first; the graph changed where that needs it.

    Raises NotAdded where an input can't be served, or where the user must say more.
    """
    with session(draft.model) as opened:
        infos = opened.inputs
    if not infos:
        raise NotAdded("the model has no inputs: there is nothing to send and nothing to explain")
    _check_servable(infos)
    codec = wishes.said_codec or _detected(draft, infos)
    draft = _main(draft, infos, codec, wishes)
    draft = _early_floats(draft)
    return _others(draft)


def _check_servable(infos: Sequence[TensorInfo]) -> None:
    for info in infos:
        if info.dtype not in get_args(Dtype):
            raise NotAdded(f"input {info.name!r} has the type {info.dtype}: only tensors of numbers, booleans and strings can be sent")
        if not info.shape:
            raise NotAdded(f"input {info.name!r} is a single number for all rows: every input needs a batch axis, the first one")
    fixed = {info.shape[0] for info in infos if info.shape[0] is not None}
    if len(fixed) > 1 or (fixed and any(info.shape[0] is None for info in infos)):
        shown = ", ".join(f"{info.name} {list(info.shape)}" for info in infos)
        raise NotAdded(f"the inputs don't share a batch axis, the first of each: {shown}".replace("None", "any"))


def _detected(draft: Draft, infos: Sequence[TensorInfo]) -> Codec:
    if any(looks_like_picture(info) for info in infos):
        return "image"
    trees = any(node.op_type in TABLE_OPERATORS for node in draft.model.graph.node)
    return "table" if trees and len(infos) == 1 and _is_table(infos[0]) else "tensor"


def _is_table(info: TensorInfo) -> bool:
    return len(info.shape) == 2 and info.dtype in _NUMBERS


def _main(draft: Draft, infos: Sequence[TensorInfo], codec: Codec, wishes: Wishes) -> Draft:
    """The input that a raw body fills."""
    match codec:
        case "image":
            return as_picture(draft, next((i for i in infos if looks_like_picture(i)), infos[0]), wishes)
        case "text":
            return as_text(draft, infos, wishes)
        case "audio":
            return _as_sound(draft, next((i for i in infos if i.dtype in _FLOATS), infos[0]), wishes)
        case "table":
            return _as_table(draft, next((i for i in infos if _is_table(i)), infos[0]), wishes)
    return draft


def _as_table(draft: Draft, info: TensorInfo, wishes: Wishes) -> Draft:
    if not _is_table(info):
        raise NotAdded(
            f"input {info.name!r} is {info.dtype} {list(info.shape)}: a table is one row of numbers an instance".replace("None", "any")
        )
    count = info.shape[1]
    if count is None:
        if not wishes.columns:
            raise NotAdded(f"input {info.name!r} leaves the number of columns open: say --columns FILE or A,B,C")
        count = len(wishes.columns)
        draft = draft.changed(with_sizes(draft.model, info.name, (count,)), f"input {info.name!r} fixed to {count} columns (--columns)")
    if wishes.columns and len(wishes.columns) != count:
        raise NotAdded(f"--columns: {len(wishes.columns)} names, input {info.name!r} has {count} columns")
    if not wishes.columns:
        draft = draft.noted(f"the columns are named x0 to x{count - 1}; --columns FILE gives them names")
    names = wishes.columns or tuple(f"x{index}" for index in range(count))
    policy = TablePolicy(columns=tuple(Column(name=name) for name in names))
    fields = {"name": info.name, "codec": "table", "dtype": info.dtype, "shape": (count,), "table": policy.model_dump()}
    return draft.with_inputs(Input.model_validate(fields))


def _as_sound(draft: Draft, info: TensorInfo, wishes: Wishes) -> Draft:
    row = info.shape[1:]
    if info.dtype not in _FLOATS or not (len(row) == 1 or (len(row) == 2 and row[0] == 1)):
        shown = f"{info.dtype} {list(info.shape)}".replace("None", "any")
        raise NotAdded(f"input {info.name!r} is {shown}: a sound is float samples (batch x samples, or batch x 1 x samples)")
    if wishes.sample_rate is None:
        raise NotAdded(f"input {info.name!r} takes samples: say --sample-rate HZ that the model was trained with")
    length = row[-1]
    seconds = wishes.max_seconds or (length / wishes.sample_rate if length else _LONGEST_SOUND)
    policy = AudioPolicy(sample_rate=wishes.sample_rate, max_seconds=seconds, pad_to_max=length is not None)
    fields = {"name": info.name, "codec": "audio", "dtype": info.dtype, "shape": row, "range": (-1, 1), "audio": policy.model_dump()}
    return draft.with_inputs(Input.model_validate(fields))


def _early_floats(draft: Draft) -> Draft:
    """Integers that are transposed before they become floats become floats first: attributions shall lie as the input does."""
    with session(draft.model) as opened:
        integers = [info.name for info in opened.inputs if info.dtype in _NUMBERS and info.dtype not in _FLOATS]
    for name in integers:
        model = with_float_first(draft.model, name)
        if model is not None:
            draft = draft.changed(model, f"input {name!r} is cast to float before it is rearranged, not after: the same numbers")
    return draft


def _others(draft: Draft) -> Draft:
    """The inputs that aren't described yet, as plain tensors."""
    done = {i.name for i in draft.inputs} | {i.text.lengths for i in draft.inputs if i.text}
    with session(draft.model) as opened:
        infos = [info for info in opened.inputs if info.name not in done]
    tables = {info.name: [e.indices for e in entries(draft.model, info.name) if e.indices is not None] for info in infos}
    spans = {name: (0, min(rows) - 1) for name, rows in tables.items() if rows}
    fields = ({"name": i.name, "codec": "tensor", "dtype": i.dtype, "shape": i.shape[1:], "range": spans.get(i.name)} for i in infos)
    return draft.with_inputs(*(Input.model_validate(field) for field in fields))

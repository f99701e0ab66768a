"""Every output of a model described: classes with labels, values, masks, or plain tensors; and whether it holds probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto

from service.adding.draft import Draft, session
from service.adding.refused import NotAdded
from service.adding.rewrite import with_outputs
from service.adding.trial import Trial
from service.adding.wishes import Activation, Task, Wishes
from service.engine.running import TensorInfo
from service.explain.detect import Ending, attributes, ending, ends_in_log_softmax
from service.manifest import Dtype, Output

Labels = Mapping[str, tuple[str, ...]]
Explained = Literal["logit", "probability", "value"]
_FLOATS = ("float16", "float32", "float64")
_CLASSIFIERS = frozenset({"TreeEnsembleClassifier", "LinearClassifier", "SVMClassifier"})
_REGRESSORS = frozenset({"TreeEnsembleRegressor", "LinearRegressor", "SVMRegressor"})
_SUMS = 1e-3
"""How far from 1 the sum of probabilities may be."""


@dataclass(frozen=True, slots=True)
class Described:
    outputs: tuple[Output, ...]
    task: Task
    explained: Explained
    """Of the first output, by default."""
    draft: Draft


def described(draft: Draft, trial: Trial, labels: Labels, wishes: Wishes) -> Described:
    """All outputs that have a batch axis, the explained one first; others are taken out of the graph. Raises NotAdded."""
    draft = _with_batch_axis(draft, trial)
    with session(draft.model) as opened:
        infos = {info.name: info for info in opened.outputs}
    first = _first(infos, labels, wishes)
    output, explained, notes = _main(infos[first], draft.model.graph, trial.ran.get(first), labels.get(first, ()), wishes)
    others = tuple(_tensor(info) for name, info in infos.items() if name != first)
    task = wishes.task or _task(output)
    return Described((output, *others), task, explained, draft.noted(*notes))


def tensors_only(draft: Draft) -> Draft:
    """Without the outputs that no protocol carries. Raises NotAdded where none is left."""
    with session(draft.model) as opened:
        wrong = {info.name: f"has the type {info.dtype}, which no protocol carries" for info in opened.outputs if not _is_sendable(info)}
    return _without(draft, wrong)


def _is_sendable(info: TensorInfo) -> bool:
    return info.dtype in get_args(Dtype)


def _with_batch_axis(draft: Draft, trial: Trial) -> Draft:
    """Without the outputs that don't hold a row for each row that goes in."""
    rows = len(next(iter(trial.feeds.values()))) if trial.feeds else None
    lacking = {name for name, array in trial.ran.items() if array.ndim == 0 or len(array) != rows}
    with session(draft.model) as opened:
        lacking |= {info.name for info in opened.outputs if not info.shape}
        found = [info.name for info in opened.outputs if info.name in lacking]
    return _without(draft, dict.fromkeys(found, "has no batch axis"))


def _without(draft: Draft, reasons: Mapping[str, str]) -> Draft:
    if not reasons:
        return draft
    kept = [output.name for output in draft.model.graph.output if output.name not in reasons]
    said = "; ".join(f"output {name!r} {reason}" for name, reason in reasons.items())
    if not kept:
        raise NotAdded(f"no output can be served: {said}")
    return draft.changed(with_outputs(draft.model, kept), f"taken out: {said}")


def _first(infos: Mapping[str, TensorInfo], labels: Labels, wishes: Wishes) -> str:
    if wishes.output is not None:
        if wishes.output not in infos:
            raise NotAdded(f"--output {wishes.output!r}: there is no such output; there are: {', '.join(infos)}")
        return wishes.output
    floats = [name for name, info in infos.items() if info.dtype in _FLOATS]
    return next((name for name in infos if name in labels), next(iter(floats), next(iter(infos))))


def _main(
    info: TensorInfo, graph: GraphProto, array: NDArray[Any] | None, found: tuple[str, ...], wishes: Wishes
) -> tuple[Output, Explained, tuple[str, ...]]:
    """The explained output, what is explained of it by default, and what the user should know."""
    rank = len(info.shape) - 1
    labels = wishes.labels or found or _class_labels(graph)
    if info.dtype in _FLOATS and rank == 3 and wishes.task == "segmentation":
        return _mask(info, graph, wishes)
    if info.dtype not in _FLOATS or rank > 1:
        if wishes.labels:
            raise NotAdded(f"--labels: output {info.name!r} is {info.dtype} {_shown(info)}, not one score a class; say --output or --task")
        return _tensor(info), "value", ()
    width = _width(info, array)
    if _is_classes(info, graph, array, labels, wishes):
        return _classes(info, graph, array, labels, width, wishes)
    if wishes.task == "regression" or (wishes.task is None and (width == 1 or _has(graph, _REGRESSORS))):
        return _as(info, width, kind="value"), "value", ()
    note = (
        f"output {info.name!r} is {width or 'any number of'} numbers a row: with --labels or --task classification they are scores of "
        "classes, with --task regression values"
    )
    return _as(info, width, kind="tensor"), "value", () if wishes.task else (note,)


def _is_classes(info: TensorInfo, graph: GraphProto, array: NDArray[Any] | None, labels: tuple[str, ...], wishes: Wishes) -> bool:
    if wishes.task not in (None, "classification"):
        if wishes.labels:
            raise NotAdded(f"--labels names classes, --task {wishes.task} has none")
        return False
    said = bool(wishes.task or wishes.labels or wishes.activation in ("softmax", "sigmoid"))
    told = ending(graph, info.name) is not None or ends_in_log_softmax(graph, info.name) or _has(graph, _CLASSIFIERS)
    return said or told or bool(labels) or _sums_to_one(array)


def _classes(
    info: TensorInfo, graph: GraphProto, array: NDArray[Any] | None, labels: tuple[str, ...], width: int | None, wishes: Wishes
) -> tuple[Output, Explained, tuple[str, ...]]:
    end = ending(graph, info.name)
    activation = wishes.activation or _activation(info, graph, array, end, width)
    if end is not None and activation not in (end.activation, "none"):
        raise NotAdded(f"--activation {activation}: the graph ends in {end.activation}, {info.name!r} holds probabilities already")
    wanted = 2 if width == 1 and activation == "sigmoid" else width
    if labels and wanted is not None and len(labels) != wanted:
        if wishes.labels:
            raise NotAdded(f"--labels: {len(labels)} labels, output {info.name!r} has {width} score{'s' * (width != 1)} and needs {wanted}")
        labels = ()
    activated = activation != "none" and (end is not None or (_within_one(array) and not _is_raw(graph)))
    output = _as(info, width, kind="classes", labels=labels, activation=activation, activated=activated)
    return (
        output,
        "probability" if activated and end is None else "logit",
        _score_notes(info.name, end, activation, activated, labels, wanted),
    )


def _score_notes(
    name: str, end: Ending | None, activation: Activation, activated: bool, labels: tuple[str, ...], wanted: int | None
) -> tuple[str, ...]:
    notes = []
    if end is not None and activated:
        notes.append(
            f"output {name!r} ends in {end.activation}: by default its logit ({end.before!r}) is explained, "
            "with explained=probability the probability"
        )
    elif activated:
        notes.append(f"output {name!r} holds probabilities, and the graph has no logits: the probability is explained")
    elif activation != "none":
        notes.append(f"output {name!r} is taken for logits: the service answers their {activation}; --activation says otherwise")
    if not labels:
        notes.append(f'the classes have no names: answers say "0" to "{(wanted or 1) - 1}"; --labels FILE gives them')
    return tuple(notes)


def _activation(info: TensorInfo, graph: GraphProto, array: NDArray[Any] | None, end: Ending | None, width: int | None) -> Activation:
    if end is not None:
        return end.activation
    if ends_in_log_softmax(graph, info.name) or _sums_to_one(array):
        return "softmax"
    if _has(graph, _CLASSIFIERS) and not _within_one(array):
        return "none"  # scores, such as an SVM's distances, that no activation was fitted to
    return "sigmoid" if width == 1 else "softmax"


def _mask(info: TensorInfo, graph: GraphProto, wishes: Wishes) -> tuple[Output, Explained, tuple[str, ...]]:
    """Scores of classes a pixel, (classes, H, W) or (H, W, classes)."""
    first, _, last = info.shape[1:]
    count = len(wishes.labels)
    layout = wishes.layout or ("NHWC" if (count and last == count and first != count) or (first is None and last is not None) else "NCHW")
    classes = last if layout == "NHWC" else first
    if count and classes not in (None, count) and not (classes == 1 and count == 2):
        raise NotAdded(f"--labels: {count} labels, output {info.name!r} has {classes} classes a pixel")
    end = ending(graph, info.name)
    activation = wishes.activation or (end.activation if end else "sigmoid" if classes == 1 else "softmax")
    fields = {"labels": wishes.labels, "activation": activation, "activated": end is not None, "layout": layout}
    output = Output.model_validate({"name": info.name, "kind": "mask", "dtype": info.dtype, "shape": info.shape[1:]} | fields)
    return output, "logit", ()


def _class_labels(graph: GraphProto) -> tuple[str, ...]:
    """Of a classifier of ai.onnx.ml, where the graph has one."""
    nodes = [node for node in graph.node if node.op_type in _CLASSIFIERS]
    if len(nodes) != 1:
        return ()
    known = attributes(nodes[0])
    names = known.get("classlabels_strings") or known.get("classlabels_int64s") or known.get("classlabels_ints") or ()
    return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)


def _has(graph: GraphProto, operators: frozenset[str]) -> bool:
    return any(node.op_type in operators and node.domain == "ai.onnx.ml" for node in graph.node)


def _is_raw(graph: GraphProto) -> bool:
    """Whether the last say is a layer's that has no activation behind it, so that values within 0 and 1 are chance."""
    return bool(graph.node) and graph.node[-1].op_type in ("Gemm", "MatMul", "Add", "Conv")


def _within_one(array: NDArray[Any] | None) -> bool:
    return array is not None and array.dtype.kind == "f" and array.size > 0 and bool((array >= 0).all() and (array <= 1 + _SUMS).all())


def _sums_to_one(array: NDArray[Any] | None) -> bool:
    if array is None or array.ndim != 2 or array.shape[1] < 2 or not _within_one(array):
        return False
    return bool(np.allclose(array.astype(np.float64).sum(1), 1, atol=_SUMS))


def _width(info: TensorInfo, array: NDArray[Any] | None) -> int | None:
    if len(info.shape) == 1:
        return 1
    return info.shape[1] if info.shape[1] is not None or array is None else int(array.shape[1])


def _as(info: TensorInfo, width: int | None, **fields: Any) -> Output:
    shape = (width,) if len(info.shape) == 2 else ()
    return Output.model_validate({"name": info.name, "dtype": info.dtype, "shape": shape} | fields)


def _tensor(info: TensorInfo) -> Output:
    return Output(name=info.name, kind="tensor", dtype=cast(Dtype, info.dtype), shape=info.shape[1:])


def _shown(info: TensorInfo) -> str:
    return str(["any" if size is None else size for size in info.shape]).replace("'", "")


def _task(output: Output) -> Task:
    kinds: dict[str, Task] = {"classes": "classification", "value": "regression", "mask": "segmentation"}
    return kinds.get(output.kind, "other")

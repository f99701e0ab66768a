"""Plausible random inputs of a model, and what its twin makes of them, before anybody asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.engine.running import TensorInfo
from service.explain.subject import Form, Subject, attributed
from service.manifest import Input, Manifest

Array = NDArray[Any]
Arrays = Mapping[str, Array]
LENGTH = 7
"""What a varying size is in a trial."""


def trial_inputs(manifest: Manifest, infos: Sequence[TensorInfo], model: onnx.ModelProto, rows: int, seed: int = 0) -> dict[str, Array]:
    """One array (rows, ..) for each of the graph's inputs, within the ranges that the manifest tells."""
    rng = np.random.default_rng(seed)
    entries = {entry.name: entry for entry in manifest.inputs}
    lengths = {entry.text.lengths for entry in manifest.inputs if entry.text}
    feeds = {}
    for info in infos:
        shape = (rows, *(LENGTH if size is None else size for size in info.shape[1:])) if info.shape else ()
        if info.name in lengths:
            feeds[info.name] = np.maximum(LENGTH - 3 * np.arange(rows), 1).astype(info.dtype).reshape(shape)
        else:
            feeds[info.name] = _values(entries.get(info.name), shape, info, _table_rows(model, info.name), rng)
    return feeds


def _values(entry: Input | None, shape: tuple[int, ...], info: TensorInfo, choices: int, rng: np.random.Generator) -> Array:
    kind = np.dtype(info.dtype) if info.dtype != "string" else np.dtype(object)
    if kind.kind == "O":
        return np.full(shape, "a", object)
    if entry is not None and entry.table is not None and kind.kind == "f":
        means = np.asarray([c.mean or 0.0 for c in entry.table.columns])
        return (means + rng.standard_normal(shape) * [c.std or 1.0 for c in entry.table.columns]).astype(kind)
    low, high = entry.range if entry is not None and entry.range else (0.0, float(choices - 1))
    if kind.kind in "biu":
        high = float(len(entry.labels) - 1) if entry is not None and entry.labels else high
        return rng.integers(int(low), int(high) + 1, shape).astype(kind)
    if entry is not None and entry.range:
        return rng.uniform(low, high, shape).astype(kind)
    return rng.standard_normal(shape).astype(kind)


def _table_rows(model: onnx.ModelProto, name: str) -> int:
    """How many rows the table has that this input indexes; 2 where it indexes none."""
    tables: Mapping[str, int] = {t.name: t.dims[0] for t in model.graph.initializer if t.dims}
    sizes = [tables[n.input[0]] for n in model.graph.node if n.op_type == "Gather" and n.input[1] == name and n.input[0] in tables]
    return min(sizes, default=2)


def with_gradients(
    subject: Subject, feeds: Arrays, ran: Arrays, form: Form = "folded"
) -> tuple[dict[str, NDArray[Any]], dict[str, Tensor | None]]:
    """The twin's outputs, and the gradients of their sum in each attributed input (None where none arrives)."""
    tensors = attributed(subject, feeds, ran)
    with torch.enable_grad():
        leaves = [t.requires_grad_() for t in tensors]
        segment = subject.segment(subject.outputs, form=form)
        outputs = segment(*leaves, *(feeds[name] for name in subject.others))
        total = sum(o.sum() for o in outputs if isinstance(o, Tensor) and o.requires_grad)
    found = torch.autograd.grad(total, leaves, allow_unused=True) if isinstance(total, Tensor) else [None] * len(leaves)
    arrays = {name: o.detach().numpy() for name, o in zip(segment.output_names, outputs, strict=True) if isinstance(o, Tensor)}
    return arrays, dict(zip(subject.at, found, strict=True))

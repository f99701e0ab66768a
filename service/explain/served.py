"""The served model in ONNX Runtime, whole and cut at the tensors where attributions are taken.

Explanations are judged by it: F is what it answers, never what the twin does.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from service.engine.session import Session
from service.explain.device import CPU, Device
from service.explain.inferred import inferred

Array = NDArray[Any]
Arrays = dict[str, Array]
Known = Mapping[str, onnx.ValueInfoProto]


class Served:
    """Runs a model on rows: `run` gives its outputs and the tensors at which it is cut, `tail` its outputs from those.

    `at` are intermediate tensors; `also` the graph inputs that the part behind them needs; `show` further tensors that both
    give beside the outputs. A model with a fixed batch
    size is run batch by batch.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        at: Sequence[str],
        also: Sequence[str],
        show: Sequence[str] = (),
        threads: int = 1,
        device: Device = CPU,
    ) -> None:
        outputs = [output.name for output in model.graph.output]
        inner = [name for name in (*at, *show) if name not in outputs]
        graph = inferred(model)
        known = known_of(graph)
        self._whole = session_of(_showing(model, inner, known), threads, device)
        self._tail = session_of(behind(model, [*at, *also], [*outputs, *show], known), threads, device) if at else self._whole
        self.outputs = tuple(outputs)
        self.inputs = self._whole.inputs
        self.bytes_a_row = _widest(graph) * 2
        """What a row of a pass holds at least: the widest tensor inside, as input and output of an operator."""

    def run(self, feeds: Mapping[str, Array]) -> Arrays:
        """Outputs and cut tensors by name for rows `feeds` (N, ..)."""
        return _run(self._whole, feeds)

    def tail(self, feeds: Mapping[str, Array]) -> Arrays:
        """Outputs by name, from cut tensors and the other inputs; without a cut from the inputs."""
        return _run(self._tail, feeds)


def known_of(graph: onnx.GraphProto) -> dict[str, onnx.ValueInfoProto]:
    """What an inferred graph says of its tensors, by name."""
    return {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}


def _showing(model: onnx.ModelProto, inner: Sequence[str], known: Known) -> onnx.ModelProto:
    """The model with some of its inner tensors as outputs, too."""
    if not inner:
        return model
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    whole.graph.output.extend(known.get(name, onnx.ValueInfoProto(name=name)) for name in inner)
    return whole


def behind(model: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str], known: Known) -> onnx.ModelProto:
    """The part of a model from some of its tensors to others. (onnx.utils.Extractor loses what only subgraphs read.)"""
    graph = model.graph
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    kept: set[int] = set()
    read: set[str] = set(outputs)
    waiting = [name for name in outputs if name not in inputs]
    while waiting:
        index = makers.get(waiting.pop())
        if index is not None and index not in kept:
            kept.add(index)
            names = _reads(graph.node[index])
            waiting.extend(names - set(inputs))
            read |= names
    part = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    part.graph.name = graph.name
    part.graph.node.extend(node for index, node in enumerate(graph.node) if index in kept)
    part.graph.initializer.extend(t for t in graph.initializer if t.name in read)
    part.graph.sparse_initializer.extend(t for t in graph.sparse_initializer if t.values.name in read)
    part.graph.input.extend(known.get(name, onnx.ValueInfoProto(name=name)) for name in inputs)
    part.graph.output.extend(known.get(name, onnx.ValueInfoProto(name=name)) for name in outputs)
    return part


def _reads(node: onnx.NodeProto) -> set[str]:
    """What a node reads, and what its subgraphs read (of this graph or, harmlessly, of their own)."""
    names = set(node.input)
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            names |= {o.name for o in inner.output}.union(*(_reads(n) for n in inner.node))
    return names - {""}


def session_of(model: onnx.ModelProto, threads: int, device: Device = CPU) -> Session:
    """Raises BadBundle."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save_model(model, path)
        return Session(path, device.served, threads, device.gpu, buffers=False)


def _widest(graph: onnx.GraphProto) -> int:
    """Bytes a row of the largest tensor whose size the graph tells; those of unknown sizes count nothing."""
    types = [value.type.tensor_type for value in graph.value_info]
    dims = [t.shape.dim for t in types]
    known = [math.prod(d.dim_value for d in each[1:]) * 4 for each in dims if all(d.HasField("dim_value") for d in each[1:])]
    return max(known, default=0)


def _run(session: Session, feeds: Mapping[str, Array]) -> Arrays:
    """All outputs for rows `feeds` (N, ..); where the graph fixes the batch size, in batches of that size, the last one filled
    up with its last row."""
    wanted = {info.name: np.ascontiguousarray(feeds[info.name]) for info in session.inputs}
    names = [info.name for info in session.outputs]
    rows = len(next(iter(wanted.values())))
    fixed = {info.shape[0] for info in session.inputs if info.shape and info.shape[0] is not None}
    batch = fixed.pop() if len(fixed) == 1 else None
    if batch is None or batch == rows:
        return dict(zip(names, session.run(wanted), strict=True))
    if rows % batch:
        wanted = {name: np.concatenate([array, np.repeat(array[-1:], -rows % batch, 0)]) for name, array in wanted.items()}
    parts = [session.run({name: array[i : i + batch] for name, array in wanted.items()}) for i in range(0, rows, batch)]
    return {name: np.concatenate(columns)[:rows] for name, columns in zip(names, zip(*parts, strict=True), strict=True)}

"""An ONNX model as plain frozen data: nodes with legal names, attributes as Python values, constants apart.

Neighbours: `module` turns it into a torch module; nothing here computes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TypeProto, numpy_helper

from service.explain.inferred import inferred
from service.explain.twin.order import ordered

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. `name` is a legal, unique module name; `onnx_name` the name in the file, which may be empty."""

    name: str
    onnx_name: str
    domain: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    captures: frozenset[str]
    """What its subgraphs refer to in the graph around them."""
    proto: NodeProto

    @property
    def reads(self) -> frozenset[str]:
        return (frozenset(self.inputs) | self.captures) - {""}

    @property
    def operator(self) -> str:
        return f"{self.domain}.{self.op_type}" if self.domain else self.op_type


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a tensor before it is computed."""

    element: int = 0
    """Its TensorProto.DataType (a sequence's: its members'); 0 where nothing says it."""
    rank: int | None = None
    """Its number of axes."""


@dataclass(frozen=True, slots=True)
class Graph:
    inputs: tuple[str, ...]
    """Without those that have an initializer, which are constants here."""
    outputs: tuple[str, ...]
    constants: Mapping[str, Array]
    nodes: tuple[Node, ...]
    opsets: Mapping[str, int]
    known: Mapping[str, Kind]
    """What the file says or implies of its tensors."""


class Names:
    """Hands out names that are legal for a submodule and were not given before."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)

    def legal(self, wanted: str, otherwise: str) -> str:
        base = re.sub(r"\W+", "_", wanted.strip("/"), flags=re.ASCII).strip("_") or otherwise
        name, count = base, 1
        while name in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._taken.add(name)
        return name


def read(model: ModelProto, names: Names) -> Graph:
    """The graph of a model that has no local functions (see `functions.inlined`)."""
    opsets = {_domain(o.domain): o.version for o in model.opset_import}
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return read_graph(inferred(model), names, opsets, {}, constants)


def read_graph(
    graph: GraphProto, names: Names, opsets: Mapping[str, int], around: Mapping[str, Kind], closed: Mapping[str, Array] | None = None
) -> Graph:
    """`around`: what is known of the tensors of the graph that this one stands in, unless it is `closed`: then these are the values of
    its initializers.

    Raises BadGraph.
    """
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer} if closed is None else dict(closed)
    constants |= {t.values.name: _dense(t) for t in graph.sparse_initializer}
    known = {**around, **{v.name: _kind(v.type) for v in (*graph.input, *graph.value_info, *graph.output)}}
    known |= {t.name: Kind(t.data_type, len(t.dims)) for t in graph.initializer}
    nodes = []
    for index, proto in enumerate(graph.node):
        if proto.op_type == "Constant" and not _domain(proto.domain):
            constants[proto.output[0]] = _constant(proto)
        else:
            nodes.append(_node(proto, names, f"{proto.op_type}_{index}", opsets, known))
    inputs = tuple(i.name for i in graph.input if i.name not in constants)
    outputs = tuple(o.name for o in graph.output)
    steps = ordered(nodes, (*inputs, *constants), outputs, closed=closed is not None)
    return Graph(inputs, outputs, constants, steps, opsets, known)


def _kind(declared: TypeProto) -> Kind:
    match declared.WhichOneof("value"):
        case "tensor_type":
            tensor = declared.tensor_type
            return Kind(tensor.elem_type, len(tensor.shape.dim) if tensor.HasField("shape") else None)
        case "sequence_type":
            return Kind(_kind(declared.sequence_type.elem_type).element)
        case "optional_type":
            return Kind(_kind(declared.optional_type.elem_type).element)
        case _:
            return Kind()


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _node(proto: NodeProto, names: Names, otherwise: str, opsets: Mapping[str, int], known: Mapping[str, Kind]) -> Node:
    name = names.legal(proto.name, otherwise)
    attributes = {a.name: _attribute(a, names, opsets, known) for a in proto.attribute}
    captures = frozenset(capture for a in proto.attribute for graph in _subgraphs(a) for capture in _captured(graph))
    return Node(
        name, proto.name, _domain(proto.domain), proto.op_type, tuple(proto.input), tuple(proto.output), attributes, captures, proto
    )


def _attribute(attribute: AttributeProto, names: Names, opsets: Mapping[str, int], known: Mapping[str, Kind]) -> Any:
    """A number, a string, a list of these, an array, or (of If, Loop, Scan) a Graph."""
    if attribute.type == AttributeProto.GRAPH:
        return read_graph(attribute.g, names, opsets, known)
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.type == AttributeProto.TENSOR:
        return numpy_helper.to_array(value)
    if attribute.type == AttributeProto.STRING:
        return value.decode()
    if attribute.type == AttributeProto.STRINGS:
        return [v.decode() for v in value]
    return list(value) if attribute.type in (AttributeProto.INTS, AttributeProto.FLOATS) else value


def _constant(proto: NodeProto) -> Array:
    """The value of a Constant node, in any of its forms."""
    (attribute,) = proto.attribute
    value = onnx.helper.get_attribute_value(attribute)
    match attribute.name:
        case "value":
            return numpy_helper.to_array(value)
        case "value_float" | "value_floats":
            return np.asarray(value, np.float32)
        case "value_int" | "value_ints":
            return np.asarray(value, np.int64)
        case "sparse_value":
            return _dense(value)
        case _:
            texts = [value] if attribute.name == "value_string" else list(value)
            array = np.asarray([t.decode() for t in texts], dtype=object)
            return array[0:1].reshape(()) if attribute.name == "value_string" else array


def _dense(sparse: onnx.SparseTensorProto) -> Array:
    values, indices, shape = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices), tuple(sparse.dims)
    array = np.zeros(shape, values.dtype)
    flat = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), shape)
    array.reshape(-1)[flat] = values
    return array


def _subgraphs(attribute: AttributeProto) -> Iterator[GraphProto]:
    if attribute.type == AttributeProto.GRAPH:
        yield attribute.g
    yield from attribute.graphs


def _captured(graph: GraphProto) -> set[str]:
    """Names that a subgraph reads but doesn't define, those of graphs nested in it included."""
    defined = {i.name for i in graph.input} | {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    read: set[str] = {o.name for o in graph.output}
    for node in graph.node:
        read |= set(node.input)
        defined |= set(node.output)
        for attribute in node.attribute:
            for inner in _subgraphs(attribute):
                read |= _captured(inner)
    return read - defined - {""}

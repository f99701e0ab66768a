"""What an ONNX graph tells about itself: activations at its end, and where a discrete input first becomes floats.

Used by `whyserve add` for the manifest it writes, and for bare models, which have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import onnx
from onnx import NodeProto, TensorProto, helper

from service.explain.inferred import inferred

STANDARD = ("", "ai.onnx")
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})
INTEGERS = frozenset(
    getattr(TensorProto, name) for name in ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "BOOL")
)
_NOT_VALUES = frozenset(
    {"Shape", "Size", "NonZero", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Not", "ArgMax", "ArgMin"}
)
"""Their results don't hold the values of their input: masks, positions, sizes."""
_IN_PLACE = frozenset(
    {"Identity", "Cast", "Add", "Sub", "Mul", "Clip", "Min", "Max", "Mod", "Where", "Gather", "OneHot", "EmbedLayerNormalization"}
)
"""Each value of their result belongs to the value at the same place of their input (of Gather: of its indices)."""
_KEEPS_VALUES = frozenset({"Identity", "Cast", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose", "Slice"})


@dataclass(frozen=True, slots=True)
class Ending:
    """An activation that makes an output; `before` is the tensor that goes into it: the logits."""

    activation: Literal["softmax", "sigmoid"]
    before: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A place where a discrete input's values become floats: the first float tensor on a way from it."""

    tensor: str
    operator: str
    indices: int | None
    """Where it is a lookup by the input's own values: how many rows the table has."""
    in_place: bool = True
    """Whether its values lie as the input's do (with further axes behind), as far as the operators on the way tell."""


def ending(graph: onnx.GraphProto, output: str) -> Ending | None:
    """The Softmax or Sigmoid that ends the way to an output, Identity nodes passed over."""
    node = _maker_past_identities(graph, output)
    if node is None or node.domain not in STANDARD:
        return None
    match node.op_type:
        case "Softmax":
            return Ending("softmax", node.input[0])
        case "Sigmoid":
            return Ending("sigmoid", node.input[0])
    return None


def ends_in_log_softmax(graph: onnx.GraphProto, output: str) -> bool:
    """Log-probabilities are logits: softmax of them gives the probabilities."""
    node = _maker_past_identities(graph, output)
    return node is not None and node.op_type == "LogSoftmax" and node.domain in STANDARD


def _maker_past_identities(graph: onnx.GraphProto, output: str) -> NodeProto | None:
    makers = {name: node for node in graph.node for name in node.output}
    node = makers.get(output)
    while node is not None and node.op_type == "Identity" and node.domain in STANDARD:
        node = makers.get(node.input[0])
    return node


def entries(model: onnx.ModelProto, name: str, types: Mapping[str, int] | None = None) -> tuple[Entry, ...]:
    """Every first float tensor on the ways from an integer input, in the graph's order; inside subgraphs none is looked for.

    `types`: see `element_types`, computed here where it isn't given.
    """
    types = element_types(model) if types is None else types
    constants = {t.name: t for t in model.graph.initializer}
    only_compared = _only_compared(model.graph)
    reached = {name: (True, True)}
    """Integer tensors that hold its values; whether unchanged ones, and whether they lie as they did."""
    fixed = {"", *constants}
    """What no input has a part in."""
    derived: set[str] = set()
    """Masks, sizes and positions that follow from its values, and from nothing else that varies."""
    found: dict[str, Entry] = {}
    for node in model.graph.node:
        known = [i for i in node.input if i in reached]
        if not all(i in reached or i in fixed or i in derived for i in node.input):
            continue  # where other tensors come in, the values only choose among those
        if not known:
            (fixed if all(i in fixed for i in node.input) else derived).update(node.output)
        elif node.op_type in _NOT_VALUES:
            derived.update(node.output)
        else:
            unchanged = all(reached[i][0] for i in known) and not any(i in derived for i in node.input)
            in_place = all(reached[i][1] for i in known) and node.op_type in _IN_PLACE and not _moves(node, reached)
            for output in filter(None, node.output):
                kind = _element_type(node, output, types)
                if kind in INTEGERS:
                    reached[output] = (unchanged and node.op_type in _KEEPS_VALUES, in_place)
                elif output in only_compared:
                    derived.add(output)
                elif kind in FLOATS:
                    rows = _table_rows(node, constants) if unchanged else None
                    found.setdefault(output, Entry(output, node.op_type, rows, in_place))
                    break  # further outputs of such a node (masks, sums) follow from the first
    return tuple(found.values())


def attribute_at(model: onnx.ModelProto) -> dict[str, str]:
    """For each integer input that becomes floats in one place only, and lies there as it was: that tensor's name."""
    types = element_types(model)
    constants = {t.name for t in model.graph.initializer}
    discrete = [i.name for i in model.graph.input if i.name not in constants and i.type.tensor_type.elem_type in INTEGERS]
    found = {name: entries(model, name, types) for name in discrete}
    return {name: places[0].tensor for name, places in found.items() if len(places) == 1 and places[0].in_place}


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type by tensor, of those that the file says or implies."""
    graph = inferred(model)
    declared = (*graph.input, *graph.value_info, *graph.output)
    return {v.name: v.type.tensor_type.elem_type for v in declared} | {t.name: t.data_type for t in graph.initializer}


def attributes(node: NodeProto) -> dict[str, Any]:
    """A node's attributes by name."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _moves(node: NodeProto, reached: Mapping[str, object]) -> bool:
    """Whether a lookup has the values as its table: it picks some of them."""
    return node.op_type == "Gather" and node.input[0] in reached


def _only_compared(graph: onnx.GraphProto) -> set[str]:
    """Tensors that nothing reads but comparisons: floats only because an operator takes no integers."""
    readers: dict[str, set[str]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    shown = {output.name for output in graph.output}
    return {name for name, operators in readers.items() if operators <= _NOT_VALUES and name not in shown}


def _element_type(node: NodeProto, output: str, types: Mapping[str, int]) -> int | None:
    known = types.get(output)
    if known:
        return known
    if node.op_type == "Cast":
        return int(attributes(node)["to"])
    return types.get(node.input[0]) if node.op_type in ("Gather", *_KEEPS_VALUES) else None


def _table_rows(node: NodeProto, constants: Mapping[str, onnx.TensorProto]) -> int | None:
    if node.op_type == "EmbedLayerNormalization" and len(node.input) > 2 and node.input[2] in constants:
        return int(constants[node.input[2]].dims[0])
    if node.op_type != "Gather" or node.input[0] not in constants:
        return None
    return int(constants[node.input[0]].dims[attributes(node).get("axis", 0)])

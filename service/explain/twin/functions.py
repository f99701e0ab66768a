"""Operators that are given as functions of others, spelled out: a model's own, and those of the standard without a torch form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import onnx
import onnx.inliner
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TypeProto

OpSchema = Any
"""onnx.defs.OpSchema, whose stub lacks what it says of functions."""
Find = Callable[[str, str, int], object | None]
"""(domain, operator, opset) to the torch form, None where there is none; the same one for versions that it computes alike."""
DOMAIN = "whyserve.standard"
DEEPEST = 8
"""How many times a function's body may hold another function of the standard."""


def inlined(model: ModelProto, find: Find) -> ModelProto:
    """The model with its local functions, and what the standard defines by a function and torch has no form for, inlined."""
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    for _ in range(DEEPEST):
        spelled = _spelled_out(model, find)
        if spelled is None:
            break
        model = onnx.inliner.inline_local_functions(spelled)
    return model


def _spelled_out(model: ModelProto, find: Find) -> ModelProto | None:
    """A copy whose standard functions are local ones, each node its own; None where there are none."""
    opsets = {_default(o.domain): o.version for o in model.opset_import}

    def lacking(node: NodeProto) -> OpSchema | None:
        domain = _default(node.domain)
        if domain not in opsets or find(domain, node.op_type, opsets[domain]):
            return None
        return _schema(domain, node.op_type, opsets[domain])

    if not any(lacking(node) for node, _ in _nodes(model.graph, {})):
        return None
    copy = _inferred(model)
    for number, (node, types) in enumerate(list(_nodes(copy.graph, {}))):
        schema = lacking(node)
        body = None if schema is None else _body(schema, node, types, opsets.get("", 1), find)
        if schema is None or body is None:
            continue
        body.domain, body.name = DOMAIN, f"{node.op_type}_{number}"
        given = {a.name for a in node.attribute}
        # The inliner binds what the node says; what it leaves out is what the schema says.
        defaults = [a.default_value for a in schema.attributes.values() if a.name not in given and a.default_value.name]
        node.attribute.extend(defaults)
        node.domain, node.op_type = body.domain, body.name
        copy.functions.append(body)
    if not copy.functions:
        return None
    copy.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    return copy


def _default(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _inferred(model: ModelProto) -> ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(model)
    except (onnx.shape_inference.InferenceError, ValueError):
        copy = ModelProto()
        copy.CopyFrom(model)
        return copy


def _nodes(graph: GraphProto, around: Mapping[str, TypeProto]) -> Iterator[tuple[NodeProto, Mapping[str, TypeProto]]]:
    """Each node, those of subgraphs included, with the types that are known where it stands."""
    types = {**around, **{v.name: v.type for v in (*graph.input, *graph.value_info, *graph.output)}}
    types |= {t.name: onnx.helper.make_tensor_type_proto(t.data_type, t.dims) for t in graph.initializer}
    for node in graph.node:
        yield node, types
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner, types)


def _schema(domain: str, op_type: str, opset: int) -> OpSchema | None:
    """That of an operator which is a function."""
    try:
        schema: OpSchema = onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None
    return schema if schema.has_function or schema.has_context_dependent_function else None


def _body(schema: OpSchema, node: NodeProto, types: Mapping[str, TypeProto], opset: int, find: Find) -> FunctionProto | None:
    """What the node's function is at the model's opset; None where there is none that holds for it."""
    if schema.has_function:
        versions = [v for v in schema.function_opset_versions if v <= opset]
        serialized = schema.get_function_with_opset_version(max(versions)) if versions else None
    else:
        versions = [v for v in schema.context_dependent_function_opset_versions if v <= opset]
        read = [types.get(name, TypeProto()).SerializeToString() for name in node.input]
        serialized = (
            schema.get_context_dependent_function_with_opset_version(max(versions), node.SerializeToString(), read) if versions else None
        )
    if not serialized:
        return None
    body: FunctionProto = FunctionProto.FromString(serialized)
    written_for = {_default(o.domain): o.version for o in body.opset_import}.get("", opset)
    if any(find("", name, written_for) is not find("", name, opset) for name in _operators(body.node)):
        return None  # an operator in it has changed since
    for entry in body.opset_import:
        if not _default(entry.domain):
            entry.version = opset  # the inliner leaves functions of another version alone
    return body


def _operators(nodes: Iterable[NodeProto]) -> Iterator[str]:
    for node in nodes:
        yield node.op_type
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _operators(inner.node)

"""Differentiates an ONNX graph in reverse: from one of its tensors back to some of its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from service.explain.gradient_graph.rules import RULES, UNDIFFERENTIATED, Reverse, Shape, Uncovered
from service.explain.inferred import inferred
from service.explain.served import known_of

SEED = "whyserve_seed"
"""The input (N, ..) beside the graph's own: the gradient of what is explained in the tensor that is differentiated."""
_OPSET = 13
"""From here on Unsqueeze and Slice take their axes as tensors, as the rules write them."""


def differentiated(part: onnx.ModelProto, tensor: str, wrt: Sequence[str], shown: Sequence[str]) -> onnx.ModelProto:
    """A graph with the inputs of `part` and `SEED`, and as outputs the gradients in the inputs `wrt`, float32 of their shapes, then the
    tensors `shown`. Raises Uncovered where a node on the way has no rule, or no gradient reaches one of the inputs.

    Gradients are sums over the seed: sum_k seed[n, k] * d tensor[n, k] / d input[n].
    """
    made = onnx.ModelProto()
    made.CopyFrom(part)
    graph, known = made.graph, inferred(part)
    if next((o.version for o in made.opset_import if o.domain in ("", "ai.onnx")), 0) < _OPSET:
        raise Uncovered(f"an opset below {_OPSET}")
    values = known_of(known)
    reverse = Reverse({t.name: numpy_helper.to_array(t) for t in graph.initializer}, _shapes(values))
    found = _backward(reverse, _on_the_way(graph.node, wrt), tensor)
    types = {name: values[name].type.tensor_type.elem_type for name in (tensor, *wrt) if name in values}
    if set(types.values()) != {TensorProto.FLOAT}:
        raise Uncovered("other numbers than float32")
    missing = [name for name in wrt if name not in found]
    if missing:
        raise Uncovered(f"no gradient reaches {', '.join(missing)}")
    gradients = [reverse.node("Identity", [found[name]]) for name in wrt]
    graph.node.extend(reverse.nodes)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in reverse.added.items())
    graph.input.append(helper.make_tensor_value_info(SEED, TensorProto.FLOAT, [None, *reverse.sizes(tensor, "what is explained")[1:]]))
    del graph.output[:]
    # What nothing says of a tensor ONNX Runtime finds out itself.
    graph.output.extend(ValueInfoProto(name=name) for name in gradients)
    graph.output.extend(values.get(name, ValueInfoProto(name=name)) for name in shown)
    return made


def _on_the_way(nodes: Sequence[NodeProto], wrt: Sequence[str]) -> list[tuple[NodeProto, list[int]]]:
    """The nodes that the inputs reach, each with the places where they do, in the graph's order."""
    reached, found = set(wrt), []
    for node in nodes:
        if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
            raise Uncovered(f"{node.op_type} with a graph inside")
        places = [place for place, name in enumerate(node.input) if name in reached]
        if places and node.op_type not in UNDIFFERENTIATED:
            reached.update(node.output)
            found.append((node, places))
    return found


def _backward(reverse: Reverse, way: Sequence[tuple[NodeProto, list[int]]], tensor: str) -> dict[str, str]:
    """The gradients by the tensor that they are in."""
    found = {tensor: SEED}
    for node, places in reversed(way):
        reaching = [name for name in node.output if name in found]
        if not reaching:
            continue
        rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if rule is None or reaching != [node.output[0]]:
            raise Uncovered(f"no rule for {node.domain or 'ai.onnx'}.{node.op_type}")
        for place in places:
            gradient = rule(reverse, node, found[node.output[0]], place)
            name = node.input[place]
            found[name] = reverse.node("Add", [found[name], gradient]) if name in found else gradient
    return found


def _shapes(values: Mapping[str, ValueInfoProto]) -> dict[str, Shape]:
    return {
        name: tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in value.type.tensor_type.shape.dim)
        for name, value in values.items()
        if value.type.tensor_type.HasField("shape")
    }

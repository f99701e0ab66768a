"""ONNX Runtime's fused operators taken apart again, so that each non-linearity and each weight is a module of its own.

The parts are named as the node, with the part's operator behind it; the weighted part keeps the node's own name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, helper

MICROSOFT: Final = "com.microsoft"


def taken_apart(model: ModelProto) -> ModelProto:
    """A copy without the fused operators in `PARTS`; the model itself where it has none."""
    if not any(o.domain == MICROSOFT for o in model.opset_import) or not _has_fused(model.graph):
        return model
    copy = ModelProto()
    copy.CopyFrom(model)
    _replace(copy.graph)
    return copy


def _has_fused(graph: GraphProto) -> bool:
    return any(_parts(node) is not None or any(map(_has_fused, _subgraphs(node))) for node in graph.node)


def _replace(graph: GraphProto) -> None:
    nodes: list[NodeProto] = []
    for node in graph.node:
        for inner in _subgraphs(node):
            _replace(inner)
        parts = _parts(node)
        nodes.extend([node] if parts is None else parts(node))
    copies = [NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _subgraphs(node: NodeProto) -> Iterable[GraphProto]:
    return (a.g for a in node.attribute if a.type == AttributeProto.GRAPH)


def _parts(node: NodeProto) -> Callable[[NodeProto], list[NodeProto]] | None:
    return PARTS.get(node.op_type) if node.domain == MICROSOFT else None


def _inputs(node: NodeProto, count: int) -> list[str]:
    return [*node.input, *[""] * count][:count]


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _inner(node: NodeProto, part: str) -> str:
    """A name for what lies between two parts."""
    return f"{node.output[0]}/{part}"


def _part(node: NodeProto, op_type: str, inputs: Iterable[str], output: str, first: bool = False, **attributes: Any) -> NodeProto:
    name = node.name if first or not node.name else f"{node.name}/{op_type}"
    return helper.make_node(op_type, list(inputs), [output], name=name, **attributes)


_ACTIVATION_PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "LeakyRelu": ("alpha",),
    "Elu": ("alpha",),
    "ThresholdedRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
}


def _activated(node: NodeProto, main: NodeProto, activation: str, numbers: Mapping[str, float]) -> list[NodeProto]:
    """The main part, then the activation; what it gave before is the activation's input now."""
    if activation == "Clip":  # its bounds were attributes until opset 10, and are initializers since
        low, high = _inner(node, "low"), _inner(node, "high")
        bounds = [
            helper.make_node("Constant", [], [name], value_float=value)
            for name, value in ((low, numbers.get("alpha", -3.4e38)), (high, numbers.get("beta", 3.4e38)))
        ]
        smallest = _part(node, "Max", [main.output[0], low], _inner(node, "Max"))
        return [main, *bounds, smallest, _part(node, "Min", [_inner(node, "Max"), high], node.output[0])]
    wanted: dict[str, Any] = {name: numbers[name] for name in _ACTIVATION_PARAMETERS.get(activation, ()) if name in numbers}
    return [main, _part(node, activation, [main.output[0]], node.output[0], **wanted)]


def _conv(node: NodeProto) -> list[NodeProto]:
    attributes = _attributes(node)
    activation = attributes.pop("activation", b"").decode()
    numbers = dict(zip(("alpha", "beta"), attributes.pop("activation_params", ()), strict=False))
    x, w, b, z = _inputs(node, 4)
    kept = [x, w, b] if b else [x, w]
    nodes = [_part(node, "Conv", kept, _inner(node, "Conv"), first=True, **attributes)]
    if z:  # a residual, added before the activation
        nodes.append(_part(node, "Add", [_inner(node, "Conv"), z], _inner(node, "Add")))
    if activation:
        return [*nodes[:-1], *_activated(node, nodes[-1], activation, numbers)]
    nodes[-1].output[0] = node.output[0]
    return nodes


def _gemm(node: NodeProto) -> list[NodeProto]:
    attributes = _attributes(node)
    activation = attributes.pop("activation", b"").decode()
    numbers = {name: attributes.pop(f"activation_{name}") for name in ("alpha", "beta", "gamma") if f"activation_{name}" in attributes}
    main = _part(node, "Gemm", node.input, _inner(node, "Gemm"), first=True, **attributes)
    if activation:
        return _activated(node, main, activation, numbers)
    main.output[0] = node.output[0]
    return [main]


def _gelu(node: NodeProto, approximate: str) -> list[NodeProto]:
    x, bias = _inputs(node, 2)
    if not bias:
        return [_part(node, "Gelu", [x], node.output[0], first=True, approximate=approximate)]
    return [
        _part(node, "Add", [x, bias], _inner(node, "Add")),
        _part(node, "Gelu", [_inner(node, "Add")], node.output[0], first=True, approximate=approximate),
    ]


def _bias_softmax(node: NodeProto) -> list[NodeProto]:
    attributes = _attributes(node)
    return [
        _part(node, "Add", node.input, _inner(node, "Add")),
        _part(node, "Softmax", [_inner(node, "Add")], node.output[0], first=True, axis=attributes.get("axis", 1)),
    ]


def _skip_layer_norm(node: NodeProto) -> list[NodeProto]:
    x, skip, gamma, beta, bias = _inputs(node, 5)
    epsilon = _attributes(node).get("epsilon", 1e-12)
    return _skip(node, (x, skip, bias), "LayerNormalization", [gamma, beta] if beta else [gamma], epsilon)


def _skip_simplified(node: NodeProto) -> list[NodeProto]:
    x, skip, gamma, bias = _inputs(node, 4)
    return _skip(node, (x, skip, bias), "SimplifiedLayerNormalization", [gamma], _attributes(node).get("epsilon", 1e-5))


def _skip(node: NodeProto, terms: tuple[str, str, str], norm: str, weights: list[str], epsilon: float) -> list[NodeProto]:
    x, skip, bias = terms
    outputs = [*node.output, *[""] * 4][:4]
    total = outputs[3] or _inner(node, "Sum")
    between = _inner(node, "Add")
    adds = [_part(node, "Add", [x, skip], between if bias else total)]
    if bias:
        adds.append(_part(node, "Add", [between, bias], total))
    last = _part(node, norm, [total, *weights], outputs[0], first=True, axis=-1, epsilon=epsilon)
    if outputs[1] or outputs[2]:  # the statistics, which training reads
        last.output.extend(outputs[1:3])
    return [*adds, last]


PARTS: Final[Mapping[str, Callable[[NodeProto], list[NodeProto]]]] = {
    "FusedConv": _conv,
    "FusedGemm": _gemm,
    "BiasGelu": lambda node: _gelu(node, "none"),
    "Gelu": lambda node: _gelu(node, "none"),
    "FastGelu": lambda node: _gelu(node, "tanh"),
    "BiasSoftmax": _bias_softmax,
    "SkipLayerNormalization": _skip_layer_norm,
    "SkipSimplifiedLayerNormalization": _skip_simplified,
}

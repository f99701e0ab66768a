"""Reverse-mode rules (Griewank and Walther 2008, chapter 3): an operator's output gradient to the gradient of one of its inputs, as nodes.

Each rule is a function of the graph that is being built, the operator's node, the name of its output's gradient and the place of the
input; it returns the name of that input's gradient. It raises Uncovered for what it can't differentiate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

Array = NDArray[Any]
Size = int | str | None
"""Of an axis: a number, or the name of what varies, such as the batch's; None where nothing is known."""
Shape = tuple[Size, ...]


class Uncovered(Exception):
    """There is no rule for a node of the graph."""


@dataclass(slots=True, eq=False)
class Reverse:
    """The nodes that compute gradients, as they are added."""

    constants: Mapping[str, Array]
    """Of the model: its initializers by name."""
    shapes: Mapping[str, Shape]
    """As far as they are known."""
    nodes: list[NodeProto] = field(default_factory=list)
    added: dict[str, Array] = field(default_factory=dict)
    """Constants of the rules' own."""

    def node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        """Adds a node; the name of its output."""
        name = f"whyserve_gradient_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        name = f"whyserve_constant_{len(self.added)}"
        self.added[name] = np.ascontiguousarray(value, dtype)
        return name

    def weight(self, name: str) -> Array:
        """The value of a tensor that must be a constant of 32-bit floats."""
        if name not in self.constants or self.constants[name].dtype != np.float32:
            raise Uncovered(f"{name!r} isn't a constant of float32")
        return self.constants[name]

    def shape(self, name: str) -> Shape:
        if name in self.constants:
            return self.constants[name].shape
        if name not in self.shapes:
            raise Uncovered(f"the rank of {name!r} isn't known")
        return self.shapes[name]

    def sizes(self, name: str, what: str) -> tuple[int, ...]:
        """The shape of a tensor of which all but the first size are known; 0 for the first one."""
        first, *sizes = self.shape(name)
        known = tuple(size for size in sizes if isinstance(size, int))
        if len(known) < len(sizes):
            raise Uncovered(f"{what} over sizes that vary")
        return (first if isinstance(first, int) else 0, *known)

    def like(self, gradient: str, name: str) -> str:
        """The gradient in the shape of a tensor."""
        return self.node("Reshape", [gradient, self.node("Shape", [name])])


Rule = Callable[[Reverse, NodeProto, str, int], str]


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _first(place: int, node: NodeProto) -> None:
    if place:
        raise Uncovered(f"{node.op_type}: no rule for its input {place}")


def _same(_: Reverse, node: NodeProto, g: str, place: int) -> str:
    _first(place, node)
    return g


def _relu(r: Reverse, node: NodeProto, g: str, _: int) -> str:
    # By Where an mnist-cnn's gradients took a fifth longer: it guesses each element's branch. No rule makes g infinite, so 0 g is 0.
    on = r.node("Greater", [node.output[0], r.constant(0.0)])
    return r.node("Mul", [g, r.node("Cast", [on], to=TensorProto.FLOAT)])


def _leaky_relu(r: Reverse, node: NodeProto, g: str, _: int) -> str:
    slope = r.constant(attribute(node, "alpha", 0.01))
    return r.node("Where", [r.node("Greater", [node.input[0], r.constant(0.0)]), g, r.node("Mul", [g, slope])])


def _sigmoid(r: Reverse, node: NodeProto, g: str, _: int) -> str:
    y = node.output[0]
    return r.node("Mul", [g, r.node("Mul", [y, r.node("Sub", [r.constant(1.0), y])])])


def _tanh(r: Reverse, node: NodeProto, g: str, _: int) -> str:
    y = node.output[0]
    return r.node("Mul", [g, r.node("Sub", [r.constant(1.0), r.node("Mul", [y, y])])])


def _neg(r: Reverse, _: NodeProto, g: str, __: int) -> str:
    return r.node("Neg", [g])


def _require_whole(r: Reverse, node: NodeProto, place: int) -> None:
    """The input isn't broadcast: its gradient has the output's shape."""
    own, other = (tuple(reversed(r.shape(node.input[k]))) for k in (place, 1 - place))
    if len(other) > len(own) or any(b != 1 and (a is None or a != b) for a, b in zip(own, other, strict=False)):
        raise Uncovered(f"{node.op_type}: its input {place} may be broadcast")


def _add(r: Reverse, node: NodeProto, g: str, place: int) -> str:
    _require_whole(r, node, place)
    return g


def _sub(r: Reverse, node: NodeProto, g: str, place: int) -> str:
    _require_whole(r, node, place)
    return r.node("Neg", [g]) if place else g


def _mul(r: Reverse, node: NodeProto, g: str, place: int) -> str:
    _require_whole(r, node, place)
    return r.node("Mul", [g, node.input[1 - place]])


def _div(r: Reverse, node: NodeProto, g: str, place: int) -> str:
    _first(place, node)
    _require_whole(r, node, place)
    return r.node("Div", [g, node.input[1]])


def _gemm(r: Reverse, node: NodeProto, g: str, place: int) -> str:
    _first(place, node)
    if attribute(node, "transA", 0):
        raise Uncovered("Gemm with transA")
    weight = r.weight(node.input[1]) * np.float32(attribute(node, "alpha", 1.0))  # (K, M), transposed (M, K)
    return r.node("MatMul", [g, r.constant(weight if attribute(node, "transB", 0) else weight.T)])


def _matmul(r: Reverse, node: NodeProto, g: str, place: int) -> str:
    _first(place, node)
    weight = r.weight(node.input[1])
    if weight.ndim != 2:
        raise Uncovered("MatMul with a constant that is no matrix")
    return r.node("MatMul", [g, r.constant(weight.T)])


def _conv(r: Reverse, node: NodeProto, g: str, place: int) -> str:
    """With a stride a transposed convolution with the same weights; else a convolution with turned ones, which runs faster."""
    _first(place, node)
    weight = r.weight(node.input[1])  # (M, C / groups, k..)
    kernel, axes = weight.shape[2:], weight.ndim - 2
    strides = list(attribute(node, "strides", [1] * axes))
    dilations = list(attribute(node, "dilations", [1] * axes))
    groups = attribute(node, "group", 1)
    pads = list(attribute(node, "pads", [0] * 2 * axes))
    if attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise Uncovered("Conv with auto_pad")
    reach = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    if all(stride == 1 for stride in strides) and all(p <= most for p, most in zip(pads, reach * 2, strict=True)):
        grouped = weight.reshape(groups, -1, *weight.shape[1:])  # (G, M / G, C / G, k..)
        turned = np.flip(grouped.swapaxes(1, 2), tuple(range(3, 3 + axes))).reshape(-1, weight.shape[0] // groups, *kernel)
        inner = [most - p for p, most in zip(pads, reach * 2, strict=True)]
        return r.node("Conv", [g, r.constant(turned)], pads=inner, dilations=dilations, group=groups, kernel_shape=list(kernel))
    sizes = r.sizes(node.input[0], "Conv with a stride")[2:]
    # What the last stride has left over at the end was read by nobody.
    rest = [
        (size + a + b - far - 1) % stride for size, a, b, far, stride in zip(sizes, pads[:axes], pads[axes:], reach, strides, strict=True)
    ]
    return r.node(
        "ConvTranspose",
        [g, r.constant(weight)],
        pads=pads,
        strides=strides,
        dilations=dilations,
        group=groups,
        output_padding=rest,
        kernel_shape=list(kernel),
    )


def _conv_transpose(r: Reverse, node: NodeProto, g: str, place: int) -> str:
    """A convolution with the same weights."""
    _first(place, node)
    weight = r.weight(node.input[1])  # (C, M / groups, k..)
    axes = weight.ndim - 2
    if attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID") or attribute(node, "output_shape", None):
        raise Uncovered("ConvTranspose with auto_pad or output_shape")
    return r.node(
        "Conv",
        [g, r.constant(weight)],
        pads=list(attribute(node, "pads", [0] * 2 * axes)),
        strides=list(attribute(node, "strides", [1] * axes)),
        dilations=list(attribute(node, "dilations", [1] * axes)),
        group=attribute(node, "group", 1),
        kernel_shape=list(weight.shape[2:]),
    )


def _batch_normalization(r: Reverse, node: NodeProto, g: str, place: int) -> str:
    _first(place, node)
    scale, _, _, variance = (r.weight(name) for name in node.input[1:5])
    factor = scale / np.sqrt(variance + np.float32(attribute(node, "epsilon", 1e-5)))
    return r.node("Mul", [g, r.constant(factor.reshape(-1, *(1,) * (len(r.shape(node.input[0])) - 2)))])


def _max_pool(r: Reverse, node: NodeProto, g: str, _: int) -> str:
    """Of windows that don't overlap: each gradient goes to the first of the largest, as ONNX Runtime and torch have it."""
    kernel = list(attribute(node, "kernel_shape", []))
    plain = (
        list(attribute(node, "strides", [1] * len(kernel))) == kernel
        and not any(attribute(node, "pads", []))
        and all(d == 1 for d in attribute(node, "dilations", []))
        and not attribute(node, "ceil_mode", 0)
        and not attribute(node, "storage_order", 0)
        and attribute(node, "auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
    )
    if not plain:
        raise Uncovered("MaxPool of windows that overlap, or are padded")
    if len(node.output) == 1:
        node.output.append(f"{node.output[0]}_whyserve_indices")
    return r.node("MaxUnpool", [g, node.output[1], r.node("Shape", [node.input[0]])], kernel_shape=kernel, strides=kernel)


def _global_average_pool(r: Reverse, node: NodeProto, g: str, _: int) -> str:
    part = r.constant(1 / math.prod(r.sizes(node.input[0], "GlobalAveragePool")[2:]))
    return r.node("Expand", [r.node("Mul", [g, part]), r.node("Shape", [node.input[0]])])


def _reduce_mean(r: Reverse, node: NodeProto, g: str, place: int) -> str:
    _first(place, node)
    rank = len(r.shape(node.input[0]))
    named = r.constants.get(node.input[1]) if len(node.input) > 1 else attribute(node, "axes", None)
    if named is None:
        raise Uncovered("ReduceMean without constant axes")
    axes = sorted(int(axis) % rank for axis in np.asarray(named).reshape(-1))
    if not axes or 0 in axes:
        raise Uncovered("ReduceMean over rows")
    sizes = r.sizes(node.input[0], "ReduceMean")
    if not attribute(node, "keepdims", 1):
        g = r.node("Unsqueeze", [g, r.constant(axes, np.int64)])
    part = r.constant(1 / math.prod(sizes[axis] for axis in axes))
    return r.node("Expand", [r.node("Mul", [g, part]), r.node("Shape", [node.input[0]])])


def _reshape(r: Reverse, node: NodeProto, g: str, place: int) -> str:
    _first(place, node)
    return r.like(g, node.input[0])


def _transpose(r: Reverse, node: NodeProto, g: str, _: int) -> str:
    order = list(attribute(node, "perm", reversed(range(len(r.shape(node.input[0]))))))
    return r.node("Transpose", [g], perm=[order.index(axis) for axis in range(len(order))])


def _concat(r: Reverse, node: NodeProto, g: str, place: int) -> str:
    axis = attribute(node, "axis", 0)
    rank = len(r.shape(node.input[0]))
    if axis % rank == 0:
        raise Uncovered("Concat of rows")
    sizes = [r.sizes(name, "Concat")[axis % rank] for name in node.input[: place + 1]]
    end = sum(sizes)
    return r.node("Slice", [g, *(r.constant([value], np.int64) for value in (end - sizes[-1], end, axis))])


RULES: Final[Mapping[str, Rule]] = {
    "Add": _add,
    "BatchNormalization": _batch_normalization,
    "Concat": _concat,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Div": _div,
    "Dropout": _same,
    "Flatten": _reshape,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "Identity": _same,
    "LeakyRelu": _leaky_relu,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Mul": _mul,
    "Neg": _neg,
    "ReduceMean": _reduce_mean,
    "Relu": _relu,
    "Reshape": _reshape,
    "Sigmoid": _sigmoid,
    "Squeeze": _reshape,
    "Sub": _sub,
    "Tanh": _tanh,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
UNDIFFERENTIATED: Final = frozenset({"Shape", "Size"})
"""Read no values: no gradient goes through them."""

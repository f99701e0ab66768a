"""Changes to a graph before it is served: each makes an answer plainer or an explanation possible, and none changes what it computes.

Every function leaves the model it is given as it is and returns another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from service.explain.detect import FLOATS, attributes
from service.explain.twin.rebatch import rebatched

_LAYOUT_ONLY = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Slice"})
BATCH = "batch"


@dataclass(frozen=True, slots=True)
class PixelArithmetic:
    """What a picture's values 0 to 255 go through before the model: (pixel / scale - mean) / std, by channel."""

    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def in_words(self) -> str:
        scaled = "pixel" if self.scale == 1 else f"pixel / {self.scale:g}"
        less = f"({scaled} - {_shown(self.mean)})" if any(self.mean) else scaled
        return f"{less} / {_shown(self.std)}" if self.std and set(self.std) != {1.0} else less


def _shown(values: Sequence[float]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else str([round(v, 6) for v in values])


def copied(model: ModelProto) -> ModelProto:
    other = ModelProto()
    other.CopyFrom(model)
    return other


def without_zipmap(model: ModelProto) -> tuple[ModelProto, dict[str, tuple[str, ...]]]:
    """Each ZipMap (a list of maps from class to score) taken away: the output is the tensor of scores; the labels by output."""
    changed = copied(model)
    labels: dict[str, tuple[str, ...]] = {}
    for node in [n for n in changed.graph.node if n.op_type == "ZipMap"]:
        names = attributes(node)
        found = names.get("classlabels_strings") or names.get("classlabels_int64s") or ()
        labels[node.output[0]] = tuple(n.decode() if isinstance(n, bytes) else str(n) for n in found)
        plain = helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name)
        node.CopyFrom(plain)
        output = next((o for o in changed.graph.output if o.name == node.output[0]), None)
        if output is not None:
            output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, [None, len(found) or None]))
    return changed, labels


def with_outputs(model: ModelProto, names: Sequence[str]) -> ModelProto:
    """Only these of the graph's outputs."""
    changed = copied(model)
    kept = [o for o in changed.graph.output if o.name in names]
    del changed.graph.output[:]
    changed.graph.output.extend(kept)
    return changed


def with_any_batch(model: ModelProto, baked: int) -> ModelProto:
    """The batch size `baked` freed: in the inputs' and outputs' declared shapes, and in Reshape targets. A guess, to be tried."""
    changed = rebatched(model, baked)
    constants = {t.name for t in changed.graph.initializer}
    for value in (*(i for i in changed.graph.input if i.name not in constants), *changed.graph.output):
        sizes = value.type.tensor_type.shape.dim
        if sizes and sizes[0].dim_value == baked:
            sizes[0].dim_param = BATCH
    del changed.graph.value_info[:]
    return changed


def with_sizes(model: ModelProto, name: str, shape: Sequence[int | None]) -> ModelProto:
    """The declared shape of an input, its batch axis left out in `shape`, where the file leaves it open."""
    changed = copied(model)
    value = next(i for i in changed.graph.input if i.name == name)
    for declared, size in zip(value.type.tensor_type.shape.dim[1:], shape, strict=True):
        if size is not None:
            declared.dim_value = size
    return changed


def with_pixels(
    model: ModelProto, name: str, arithmetic: PixelArithmetic | None, shape: tuple[int, int, int], inner: Sequence[int], layout: str
) -> ModelProto:
    """The float input `name` taking pixels 0 to 255 in `shape` (a row's, by `layout`) as float32; arithmetic and, where the
    graph wants them otherwise (`inner`, a row's shape), a Reshape come before what was there."""
    changed = copied(model)
    graph = changed.graph
    value = next(i for i in graph.input if i.name == name)
    wanted = value.type.tensor_type.elem_type
    batch = value.type.tensor_type.shape.dim[0]
    fixed = batch.dim_value if batch.HasField("dim_value") else None
    taken = {n for node in graph.node for n in (*node.input, *node.output)}
    chain = _Chain(graph, name, taken)
    if arithmetic is not None:
        chain.by("Div", arithmetic.scale if arithmetic.scale != 1 else None)
        chain.by("Sub", _per_channel(arithmetic.mean, layout) if any(arithmetic.mean) else None)
        chain.by("Div", _per_channel(arithmetic.std, layout) if arithmetic.std and set(arithmetic.std) != {1.0} else None)
    if tuple(inner) != shape:
        chain.by("Reshape", np.array([fixed or -1, *inner], np.int64))
    if wanted != TensorProto.FLOAT:
        chain.add("Cast", to=wanted)
    value.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, [fixed or batch.dim_param or BATCH, *shape]))
    chain.done()
    return changed


def _per_channel(values: Sequence[float], layout: str) -> np.ndarray:
    array = np.asarray(values, np.float32)
    return array.reshape(1, -1, 1, 1) if layout == "NCHW" else array.reshape(1, 1, 1, -1)


class _Chain:
    """Nodes put between an input and all that read it."""

    def __init__(self, graph: onnx.GraphProto, start: str, taken: set[str]) -> None:
        self._graph = graph
        self._start = self._last = start
        self._taken = taken
        self._nodes: list[NodeProto] = []

    def by(self, operator: str, constant: float | np.ndarray | None) -> None:
        """`operator(last, constant)`, nothing where there is no constant."""
        if constant is None:
            return
        name = self._free(f"{self._start}_{operator.lower()}_by")
        array = constant if isinstance(constant, np.ndarray) else np.float32(constant)
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        self.add(operator, name)

    def add(self, operator: str, *more: str, **attributes: Any) -> None:
        output = self._free(f"{self._start}_{operator.lower()}")
        self._nodes.append(helper.make_node(operator, [self._last, *more], [output], name=output, **attributes))
        self._last = output

    def done(self) -> None:
        """Puts them first, and has every reader of the input read the last of them."""
        if self._last == self._start:
            return
        for node in self._graph.node:
            _replace_inputs(node, {self._start: self._last})
        old = list(self._graph.node)
        del self._graph.node[:]
        self._graph.node.extend([*self._nodes, *old])

    def _free(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name


def _replace_inputs(node: NodeProto, names: Mapping[str, str]) -> None:
    for index, name in enumerate(node.input):
        node.input[index] = names.get(name, name)
    for attribute in node.attribute:
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            for nested in inner.node:
                _replace_inputs(nested, names)


def with_float_first(model: ModelProto, name: str) -> ModelProto | None:
    """An integer input that is moved about (transposed, reshaped) and then cast to float, cast first instead; the same
    numbers, but attributions then lie as the input does. None where it isn't so, or is cast at once."""
    changed = copied(model)
    graph = changed.graph
    moved, last = [], name
    while True:
        readers = [n for n in graph.node if last in n.input]
        if len(readers) != 1 or readers[0].input[0] != last:
            return None
        (node,) = readers
        if node.op_type == "Cast":
            break
        if node.op_type not in _LAYOUT_ONLY:
            return None
        moved.append(node)
        last = node.output[0]
    to = attributes(node)["to"]
    if not moved or to not in FLOATS:
        return None
    taken = {n for other in graph.node for n in (*other.input, *other.output)}
    between = {v.name for v in graph.value_info} & {o for n in moved for o in n.output}
    kept = [v for v in graph.value_info if v.name not in between]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    chain = _Chain(graph, name, taken)
    chain.add("Cast", to=to)
    chain.done()
    return changed


def with_mask_inside(model: ModelProto, name: str, like: str, value: int) -> ModelProto:
    """The input `name` made by the graph itself: `value` for each element of the input `like`. A text's tokens come
    unpadded, so its mask is all ones, and its segment is the first one."""
    changed = copied(model)
    graph = changed.graph
    gone = next(i for i in graph.input if i.name == name)
    kind = gone.type.tensor_type.elem_type
    graph.input.remove(gone)
    taken = {n for node in graph.node for n in (*node.input, *node.output)}
    shape = f"{name}_shape"
    while shape in taken:
        shape += "_"
    filled = numpy_helper.from_array(np.array([value], helper.tensor_dtype_to_np_dtype(kind)))
    made = [helper.make_node("Shape", [like], [shape]), helper.make_node("ConstantOfShape", [shape], [name], value=filled)]
    old = list(graph.node)
    del graph.node[:]
    graph.node.extend([*made, *old])
    return changed


def with_wider_ids(model: ModelProto, name: str) -> ModelProto:
    """The int32 input `name` taking int64, cast inside."""
    changed = copied(model)
    taken = {n for node in changed.graph.node for n in (*node.input, *node.output)}
    chain = _Chain(changed.graph, name, taken)
    chain.add("Cast", to=TensorProto.INT32)
    chain.done()
    next(i for i in changed.graph.input if i.name == name).type.tensor_type.elem_type = TensorProto.INT64
    return changed

"""Whether the twin computes what the served model computes: API.md's parity error and its limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
import onnx.numpy_helper
from numpy.typing import NDArray

Array = NDArray[Any]
LIMIT: Final = 1e-4
LIMIT_16_BIT: Final = 5e-3
# The place of the output's scale among a quantising node's inputs; its zero point is behind it.
_SCALE_AT: Final[Mapping[str, int]] = {
    "QuantizeLinear": 1,
    "DequantizeLinear": 1,
    "QLinearConv": 6,
    "QLinearMatMul": 6,
    "QLinearAdd": 6,
    "QLinearMul": 6,
    "QLinearSigmoid": 3,
    "QLinearLeakyRelu": 3,
    "QLinearSoftmax": 3,
    "QLinearAveragePool": 3,
    "QLinearGlobalAveragePool": 3,
    "QLinearReduceMean": 3,
    "QLinearConcat": 0,
    "QLinearWhere": 7,
    "QGemm": 7,
}
_REACH: Final = 127
"""Of eight bits that lie evenly about zero."""
_DYNAMIC: Final = frozenset(
    {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulInteger", "ConvInteger", "MatMulIntegerToFloat", "QAttention"}
)
_16_BIT = frozenset({onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})


def parity_error(twin: Mapping[str, Array], served: Mapping[str, Array]) -> float:
    """max|twin - served| / max(1, max|served|), the largest over the outputs in `served` (strings left out). Infinite where
    shapes differ."""
    return max((_error(twin[name], array) for name, array in served.items() if array.dtype.kind not in "OUS"), default=0.0)


def _error(twin: Array, served: Array) -> float:
    if twin.shape != served.shape:
        return float("inf")
    if served.size == 0:
        return 0.0
    wanted, got = served.astype(np.float64), twin.astype(np.float64)
    with np.errstate(invalid="ignore"):
        plain = float(np.abs(got - wanted).max())
    if np.isfinite(plain):
        return plain / max(1.0, float(np.abs(wanted).max()))
    same = (wanted == got) | (np.isnan(wanted) & np.isnan(got))  # infinities and missing values where both have them
    difference = np.where(same, 0.0, np.abs(got - np.where(same, 0.0, wanted)))
    scale = np.abs(wanted[np.isfinite(wanted)]).max(initial=1.0)
    return float(np.nan_to_num(difference, nan=np.inf).max() / scale)


def limit(model: onnx.ModelProto) -> float:
    """The parity error up to which this model's twin is used.

    Of a quantised model one quantum of its outputs, since sums in another order may round to the neighbour: the scale of the
    last quantising nodes before the outputs, in parity's own unit. That unit is the largest output of an instance, of which
    only the quantised range is known beforehand: a quarter of it is taken.
    """
    values = (*model.graph.input, *model.graph.output)
    kinds = {t.data_type for t in model.graph.initializer} | {v.type.tensor_type.elem_type for v in values}
    quanta = [_relative(quantum) for quantum in _quanta(model.graph)]
    return max(LIMIT_16_BIT if kinds & _16_BIT else LIMIT, *quanta, 0.0)


@dataclass(frozen=True, slots=True)
class _Quantum:
    """One step of a quantised output; `scale` is None where the model computes it from its input."""

    scale: float | None
    reach: int
    """The largest number of steps from zero."""


def _relative(quantum: _Quantum) -> float:
    if quantum.scale is None:
        return 1 / quantum.reach
    return quantum.scale / max(1.0, quantum.scale * quantum.reach / 4)


def _quanta(graph: onnx.GraphProto) -> Iterator[_Quantum]:
    """Of the quantising nodes that are the last ones before an output."""
    producers = {name: node for node in graph.node for name in node.output if name}
    constants = {t.name: t for t in graph.initializer}
    constants |= {n.output[0]: n.attribute[0].t for n in graph.node if n.op_type == "Constant" and n.attribute[0].name == "value"}
    waiting, seen = [o.name for o in graph.output], set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in producers:
            continue
        seen.add(name)
        node = producers[name]
        if node.op_type in _DYNAMIC:
            yield _Quantum(None, _REACH)
        elif node.op_type in _SCALE_AT and node.input[0] not in constants:
            at = _SCALE_AT[node.op_type]
            scale, zero = (constants.get(n) for n in (*node.input, "", "")[at : at + 2])
            yield _quantum(scale, zero)
        else:
            waiting.extend(node.input)


def _quantum(scale: onnx.TensorProto | None, zero: onnx.TensorProto | None) -> _Quantum:
    if scale is None:
        return _Quantum(None, _REACH)
    step = float(np.max(onnx.numpy_helper.to_array(scale).astype(np.float64)))
    point = np.zeros(1, np.uint8) if zero is None else onnx.numpy_helper.to_array(zero)
    if point.dtype.kind not in "iu":  # 8-bit floats and 4-bit integers: the narrower range, the larger the quantum
        return _Quantum(step, 8)
    kind, middle = np.iinfo(point.dtype), int(point.reshape(-1)[0])
    return _Quantum(step, max(middle - int(kind.min), int(kind.max) - middle))

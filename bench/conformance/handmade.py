"""One-node models of versions that the backend suite has no case of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bench.conformance.cases import Case

_RNG = np.random.default_rng(5)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A node for opsets from `first` to `last`; `constant` are the places of inputs that are initializers."""

    op_type: str
    inputs: Sequence[Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1
    first: int = 7
    last: int = 999
    constant: Sequence[int] = ()
    domain: str = ""

    def covers(self, op_type: str, opset: int) -> bool:
        return op_type == self.op_type and self.first <= opset <= self.last

    def case(self, opset: int) -> Case:
        """Without expected outputs."""
        names = ["" if array is None else f"x{i}" for i, array in enumerate(self.inputs)]
        arrays = {name: np.asarray(array) for name, array in zip(names, self.inputs, strict=True) if name}
        fixed = [f"x{i}" for i in self.constant]
        outputs = [f"y{i}" for i in range(self.outputs)]
        fed = {n: a for n, a in arrays.items() if n not in fixed}
        graph = helper.make_graph(
            [helper.make_node(self.op_type, names, outputs, domain=self.domain, **self.attributes)],
            "one",
            [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in fed.items()],
            [onnx.ValueInfoProto(name=name) for name in outputs],
            [numpy_helper.from_array(arrays[n], n) for n in fixed],
        )
        imports = [helper.make_opsetid(self.domain, opset)]
        if self.domain:
            imports.append(helper.make_opsetid("", 20))
        model = helper.make_model(graph, opset_imports=imports, ir_version=10 if opset > 8 or self.domain else 3)
        return Case("handmade", f"{self.op_type}-{opset}", model, [(list(fed.values()), [])], 0.0, 0.0)


def _ml(op_type: str, inputs: Sequence[Any], outputs: int = 1, **attributes: Any) -> Recipe:
    return Recipe(op_type, inputs, attributes, outputs, first=1, domain="ai.onnx.ml")


def _f(*shape: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    return _RNG.uniform(low, high, shape).astype(np.float32)


def _i(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


_REDUCTIONS = ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare", "ReduceMean", "ReduceProd", "ReduceMax")
_POSITIVE = _f(2, 3, 4, low=0.3)
_IMAGE = _f(1, 2, 4, 5)
_BOXES = np.asarray([[0, 0, 3, 3], [1, 0, 4, 2]], np.float32)
_MISSING = np.asarray([[1, np.nan], [np.nan, 2]], np.float32)
_COEFFICIENTS = [1.0, 2.0, 0.5, -1.0, 0.3, 0.7]
_SCALES = np.asarray([1, 1, 2, 1.5], np.float32)

HANDMADE: Final[tuple[Recipe, ...]] = (
    # What was an attribute and is an input now.
    *(Recipe(op, [_POSITIVE], {"axes": [0, 2], "keepdims": keep}, last=17) for op in _REDUCTIONS for keep in (0, 1)),
    *(Recipe(op, [_POSITIVE], {"axes": [1]}, last=17) for op in ("ReduceMin", "ReduceLogSum")),
    Recipe("ReduceSum", [_POSITIVE], {"axes": [0, -1], "keepdims": 0}, first=11, last=12),
    Recipe("ReduceSum", [_POSITIVE], {"axes": [1]}, last=12),
    Recipe("Slice", [_f(4, 6)], {"starts": [0, 1], "ends": [3, -1], "axes": [0, 1]}, last=9),
    Recipe("Slice", [_f(4, 6)], {"starts": [1], "ends": [1000]}, last=9),
    Recipe("Squeeze", [_f(1, 3, 1, 2)], {"axes": [0, 2]}, last=12),
    Recipe("Squeeze", [_f(1, 3, 1, 2)], {}, last=12),
    Recipe("Unsqueeze", [_f(3, 2)], {"axes": [0, 3]}, last=12),
    Recipe("TopK", [_f(3, 6)], {"k": 3}, outputs=2, last=9),
    Recipe("TopK", [_f(3, 6)], {"k": 2, "axis": 0}, outputs=2, last=9),
    Recipe("Split", [_f(3, 6)], {"axis": 1, "split": [2, 4]}, outputs=2, last=12),
    Recipe("Split", [_f(4, 6)], {}, outputs=2, last=12),
    Recipe("Clip", [_f(3, 4)], {"min": -0.5, "max": 0.7}, last=10),
    Recipe("Pad", [_f(3, 4)], {"pads": [0, 1, 2, 0], "value": 0.3}, last=10),
    Recipe("Pad", [_f(3, 4)], {"pads": [1, 1, 1, 2], "mode": "reflect"}, last=10),
    Recipe("Dropout", [_f(3, 4)], {"ratio": 0.3}, last=11),
    # What meant something else.
    *(Recipe(op, [_f(2, 3, 4)], {"axis": axis}, last=12) for op in ("Softmax", "LogSoftmax", "Hardmax") for axis in (0, 1, 2)),
    *(Recipe("Flatten", [_f(2, 3, 4)], {"axis": axis}) for axis in (0, 1, 2, 3)),
    *(Recipe("Upsample", [_IMAGE], {"mode": mode, "scales": [1.0, 1.0, 2.0, 3.0]}, last=8) for mode in ("nearest", "linear")),
    *(Recipe("Upsample", [_IMAGE, _SCALES], {"mode": mode}, first=9, last=9, constant=(1,)) for mode in ("nearest", "linear")),
    *(Recipe("Resize", [_IMAGE, _SCALES], {"mode": mode}, first=10, last=10, constant=(1,)) for mode in ("nearest", "linear")),
    *(
        Recipe("Resize", [_IMAGE, _f(0), _SCALES], {"mode": mode, "coordinate_transformation_mode": how}, first=11, constant=(1, 2))
        for mode in ("nearest", "linear")
        for how in ("half_pixel", "align_corners", "asymmetric")
    ),
    Recipe("BatchNormalization", [_f(2, 3, 4), _f(3), _f(3), _f(3), _f(3, low=0.2)], {"epsilon": 1e-3}, constant=(1, 2, 3, 4)),
    Recipe("Gemm", [_f(3, 4), _f(4, 5), _f(5)], {"alpha": 0.5, "beta": 2.0}),
    Recipe("GRU", [_f(4, 2, 3), _f(1, 15, 3), _f(1, 15, 5)], {"hidden_size": 5}, outputs=2),
    Recipe("LSTM", [_f(4, 2, 3), _f(1, 20, 3), _f(1, 20, 5)], {"hidden_size": 5}, outputs=3),
    Recipe("RNN", [_f(4, 2, 3), _f(2, 5, 3), _f(2, 5, 5)], {"hidden_size": 5, "direction": "bidirectional"}, outputs=2),
    # What the suite has no case of one node of.
    Recipe("DepthToSpace", [_f(1, 8, 2, 3)], {"blocksize": 2}),
    *(Recipe("GlobalLpPool", [_f(1, 2, 4, 5)], {"p": p}) for p in (1, 2, 3)),
    Recipe("RoiAlign", [_f(1, 2, 5, 5), _BOXES, _i(0, 0)], {"output_height": 2, "output_width": 2, "sampling_ratio": 2}, first=10),
    Recipe("MaxRoiPool", [_f(1, 2, 5, 5), np.hstack([np.zeros((2, 1), np.float32), _BOXES])], {"pooled_shape": [2, 2]}),
    Recipe("QuantizeLinear", [_f(3, 4), np.float32(0.02), np.uint8(128)], first=10, constant=(1, 2)),
    Recipe("DequantizeLinear", [np.arange(12, dtype=np.uint8).reshape(3, 4), np.float32(0.02), np.uint8(3)], first=10, constant=(1, 2)),
    Recipe("Trilu", [_f(4, 5), np.int64(1)], {"upper": 0}, first=14, constant=(1,)),
    *(Recipe(op, [_f(3, 5)], first=13) for op in ("Erf", "Mish")),
    Recipe("LRN", [_f(1, 5, 3, 3)], {"size": 3, "alpha": 0.01}),
    Recipe("Cast", [_f(3, 5)], {"to": onnx.TensorProto.DOUBLE}),
    Recipe("CastLike", [_f(3, 5), np.asarray([1.0])], first=15, constant=(1,)),
    # Classical models.
    _ml("Scaler", [_f(3, 2)], offset=[0.5, -1.0], scale=[2.0, 0.1]),
    *(_ml("Normalizer", [_f(3, 4)], norm=norm) for norm in ("MAX", "L1", "L2")),
    _ml(
        "Imputer", [np.asarray([[1, np.nan], [np.nan, 2]], np.float32)], imputed_value_floats=[5.0, 6.0], replaced_value_float=float("nan")
    ),
    _ml("LinearRegressor", [_f(3, 2)], coefficients=[1.0, 2.0, 0.5, -1.0], intercepts=[0.1, 0.2], targets=2),
    *(
        _ml("LinearClassifier", [_f(5, 2)], 2, classlabels_ints=[3, 5, 9], coefficients=_COEFFICIENTS, intercepts=[0.1, 0.2, 0.3], **how)
        for how in ({"post_transform": "SOFTMAX"}, {"post_transform": "LOGISTIC"}, {})
    ),
    _ml("OneHotEncoder", [_i(1, 3, 2)], cats_int64s=[1, 2, 3]),
    _ml("FeatureVectorizer", [_f(3, 2), _f(3, 1)], inputdimensions=[2, 1]),
)

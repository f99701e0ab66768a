"""Each operator as a one-node model: the twin against ONNX Runtime, and its gradient against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from service.explain.twin import build
from service.explain.twin.registry import OPERATORS

ROWS = (1, 3)
RNG = np.random.default_rng(7)


def f(*shape: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    return RNG.uniform(low, high, shape).astype(np.float32)


def i(*values: Any) -> np.ndarray:
    return np.asarray(values, np.int64)


@dataclass(frozen=True)
class Case:
    op: str
    inputs: Callable[[int], list[Any]]
    """From the number of rows."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    opsets: tuple[int, ...] = (20,)
    outputs: int = 1
    smooth: bool = True
    """Whether finite differences tell the gradient at random places."""
    fixed: tuple[int, ...] = ()
    """Inputs that ONNX Runtime or the module form wants constant (each case also runs with all others dynamic)."""


def unary(
    op: str, *, low: float = -2.0, high: float = 2.0, smooth: bool = True, opsets: tuple[int, ...] = (20,), **attributes: Any
) -> Case:
    return Case(op, lambda n: [f(n, 5, low=low, high=high)], attributes, opsets, smooth=smooth)


def binary(op: str, *, opsets: tuple[int, ...] = (7, 20), low: float = -2.0, smooth: bool = True, **attributes: Any) -> Case:
    return Case(op, lambda n: [f(n, 2, 3, low=low), f(2, 1, low=low)], attributes, opsets, smooth=smooth)


def conv(
    op: str,
    *,
    rank: int = 2,
    channels: int = 4,
    out: int = 6,
    bias: bool = True,
    size: int = 7,
    opsets: tuple[int, ...] = (11, 20),
    **a: Any,
) -> Case:
    group, kernel = a.get("group", 1), a.pop("kernel", 3)
    shape = (out, channels // group) if op == "Conv" else (channels, out // group)
    weights = [f(*shape, *(kernel,) * rank), f(out) if bias else None]
    return Case(op, lambda n: [f(n, channels, *(size,) * rank), *weights], a, opsets, fixed=(1, 2))


def pool(op: str, *, rank: int = 2, size: int = 7, opsets: tuple[int, ...] = (11, 20), outputs: int = 1, **attributes: Any) -> Case:
    return Case(op, lambda n: [f(n, 2, *(size,) * rank)], attributes, opsets, outputs)


def reduction(op: str, *, low: float = -2.0) -> list[Case]:
    since = 13 if op == "ReduceSum" else 18
    return [
        Case(op, lambda n: [f(n, 3, 4, low=low)], {"axes": [1, -1], "keepdims": 0}, (7, since - 1)),
        Case(op, lambda n: [f(n, 3, 4, low=low)], {}, (7, 20)),
        Case(op, lambda n: [f(n, 3, 4, low=low), i(1, -1)], {"keepdims": 0}, (since, 20), fixed=(1,)),
        Case(op, lambda n: [f(n, 3, 4, low=low), i()], {"noop_with_empty_axes": 1}, (since,), fixed=(1,)),
    ]


def plain(
    op: str,
    inputs: Callable[[int], list[Any]],
    fixed: tuple[int, ...] = (),
    opsets: tuple[int, ...] = (20,),
    outputs: int = 1,
    smooth: bool = True,
    **attributes: Any,
) -> Case:
    return Case(op, inputs, attributes, opsets, outputs, smooth, fixed)


CASES = [
    # elementwise
    *(unary(op) for op in ("Abs", "Asinh", "Atan", "Cos", "Cosh", "Erf", "Exp", "Identity", "Neg", "Sin", "Sinh", "Tan")),
    *(unary(op, low=-0.9, high=0.9) for op in ("Acos", "Asin", "Atanh")),
    *(unary(op, low=0.3) for op in ("Log", "Reciprocal", "Sqrt")),
    unary("Acosh", low=1.2, high=3.0),
    *(unary(op, smooth=False) for op in ("Ceil", "Floor", "Round", "Sign")),
    *(unary(op, smooth=False) for op in ("IsNaN", "IsInf")),
    plain("Round", lambda n: [np.array([[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]] * n, np.float32)], smooth=False),
    plain("IsInf", lambda n: [np.array([[np.inf, -np.inf, 1]] * n, np.float32)], smooth=False, detect_negative=0),
    *(binary(op) for op in ("Add", "Sub", "Mul")),
    binary("Div", low=0.5),
    plain("Div", lambda n: [np.array([[7, -7, 9]] * n, np.int64), i(2, 2, -4)], smooth=False),
    plain("Mod", lambda n: [np.array([[7, -7, 9]] * n, np.int64), i(3, 3, -4)], smooth=False),
    plain("Mod", lambda n: [f(n, 4), f(4, low=0.5)], smooth=False, fmod=1),
    plain("Pow", lambda n: [f(n, 4, low=0.2), f(4)], opsets=(7, 20)),
    plain("Pow", lambda n: [f(n, 4), i(2, 3, 2, 1)], smooth=False),
    *(plain(op, lambda n: [f(n, 4), f(4), f(1)], opsets=(8, 20)) for op in ("Max", "Min", "Sum", "Mean")),
    unary("Clip", opsets=(7,), smooth=False, min=-0.5, max=0.7),
    plain("Clip", lambda n: [f(n, 6), np.float32(-0.5), np.float32(0.7)], opsets=(12, 20), smooth=False),
    plain("Clip", lambda n: [f(n, 6), None, np.float32(0.7)], opsets=(12,), smooth=False),
    plain("Where", lambda n: [np.array([[True], [False]]), f(n, 2, 3), f(3)]),
    plain("BitShift", lambda n: [np.array([[8, 16]] * n, np.uint8), np.array([1, 2], np.uint8)], smooth=False, direction="RIGHT"),
    *(
        plain(op, lambda n: [np.array([[6, 3]] * n, np.int32), np.array([5, 1], np.int32)], smooth=False)
        for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")
    ),
    plain("BitwiseNot", lambda n: [np.array([[6, 3]] * n, np.int32)], smooth=False),
    plain("Dropout", lambda n: [f(n, 4)], opsets=(7, 12, 20)),
    # logic
    *(binary(op, smooth=False) for op in ("Greater", "Less")),
    *(binary(op, smooth=False, opsets=(12, 20)) for op in ("GreaterOrEqual", "LessOrEqual")),
    *(plain(op, lambda n: [f(n, 4) > 0, f(4) > 0], opsets=(7, 20), smooth=False) for op in ("And", "Or", "Xor")),
    plain("Not", lambda n: [f(n, 4) > 0], smooth=False),
    plain("Equal", lambda n: [np.array([[1, 2]] * n, np.int64), i(1, 3)], opsets=(7, 20), smooth=False),
    # activations
    *(unary(op, opsets=(7, 20)) for op in ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "LeakyRelu", "Elu", "Selu", "HardSigmoid")),
    *(unary(op) for op in ("HardSwish", "Mish", "Celu", "Gelu", "ThresholdedRelu")),
    unary("LeakyRelu", alpha=0.3),
    unary("Elu", alpha=0.5),
    unary("Celu", alpha=0.7),
    unary("Selu", alpha=1.5, gamma=1.2),
    unary("HardSigmoid", alpha=0.3, beta=0.4, smooth=False),
    unary("Gelu", approximate="tanh"),
    unary("ThresholdedRelu", alpha=0.4, smooth=False),
    unary("Shrink", bias=0.1, lambd=0.6, smooth=False),
    plain("Softplus", lambda n: [np.array([[30.0, -30.0, 80.0]] * n, np.float32)]),
    plain("PRelu", lambda n: [f(n, 3, 4), f(3, 1)], fixed=(1,)),
    plain("PRelu", lambda n: [f(n, 3, 4), f(1)], fixed=(1,)),
    plain("PRelu", lambda n: [f(n, 3, 4), f(3, 4)], fixed=(1,)),
    *(plain(op, lambda n: [f(n, 3, 4)], opsets=(7, 11, 13, 20)) for op in ("Softmax", "LogSoftmax")),
    *(plain(op, lambda n: [f(n, 3, 4)], opsets=(11, 13), axis=axis) for op in ("Softmax", "LogSoftmax") for axis in (0, 1, 2)),
    plain("Hardmax", lambda n: [f(n, 3, 4)], opsets=(11, 13), smooth=False),
    # linear
    plain("MatMul", lambda n: [f(n, 2, 4), f(4, 3)], (1,), (9, 20)),
    plain("MatMul", lambda n: [f(n, 2, 4), f(n, 4, 3)]),
    plain("MatMul", lambda n: [f(n, 4), f(4)], (1,)),
    plain("Gemm", lambda n: [f(n, 4), f(4, 3), f(3)], (1, 2), (7, 11, 20)),
    plain("Gemm", lambda n: [f(n, 4), f(3, 4), f(3)], (1, 2), transB=1, alpha=0.5, beta=2.0),
    plain("Gemm", lambda n: [f(n, 4), f(3, 4), f(1)], (1, 2), transB=1),
    plain("Gemm", lambda n: [f(n, 4), f(3, 4), f(n, 3)], (1, 2), transB=1),
    plain("Gemm", lambda n: [f(4, n), f(4, 3)], (1,), (11, 20), transA=1),
    plain("Einsum", lambda n: [f(n, 2, 3), f(3, 4)], equation="nij,jk->nik"),
    # convolution
    *(conv("Conv", rank=rank) for rank in (1, 2, 3)),
    conv("Conv", bias=False, strides=[2, 2], pads=[1, 1, 1, 1]),
    conv("Conv", pads=[0, 1, 2, 1]),
    conv("Conv", group=2, dilations=[2, 1]),
    conv("Conv", auto_pad="SAME_UPPER", strides=[2, 2], size=8),
    conv("Conv", auto_pad="SAME_LOWER", strides=[2, 2], size=8),
    conv("Conv", auto_pad="VALID"),
    *(conv("ConvTranspose", rank=rank) for rank in (1, 2, 3)),
    conv("ConvTranspose", kernel=4, strides=[2, 2], pads=[1, 1, 1, 1]),
    conv("ConvTranspose", strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1], group=2, bias=False),
    conv("ConvTranspose", strides=[2, 2], pads=[0, 1, 1, 0]),
    conv("ConvTranspose", strides=[3, 3], output_shape=[20, 21]),
    conv("ConvTranspose", strides=[2, 2], auto_pad="SAME_UPPER"),
    plain(
        "ConvInteger",
        lambda n: [RNG.integers(0, 255, (n, 2, 5, 5)).astype(np.uint8), RNG.integers(0, 9, (3, 2, 3, 3)).astype(np.uint8), np.uint8(7)],
        (1, 2),
        smooth=False,
    ),
    # pooling
    *(pool("MaxPool", rank=rank, kernel_shape=[2] * rank, strides=[2] * rank) for rank in (1, 2, 3)),
    pool("MaxPool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
    pool("MaxPool", kernel_shape=[3, 3], pads=[0, 1, 2, 1], strides=[2, 2]),
    pool("MaxPool", kernel_shape=[3, 3], ceil_mode=1, strides=[3, 3]),
    pool("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]),
    pool("MaxPool", kernel_shape=[3, 3], auto_pad="SAME_UPPER", strides=[2, 2], size=8),
    pool("MaxPool", kernel_shape=[2, 2], strides=[2, 2], outputs=2),
    pool("MaxPool", kernel_shape=[3, 2], pads=[1, 0, 1, 0], outputs=2),
    *(pool("AveragePool", rank=rank, kernel_shape=[2] * rank, strides=[2] * rank) for rank in (1, 2, 3)),
    pool("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    pool("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    pool("AveragePool", kernel_shape=[3, 3], pads=[0, 1, 2, 1], count_include_pad=1, strides=[2, 2]),
    pool("AveragePool", kernel_shape=[3, 3], auto_pad="SAME_LOWER", strides=[2, 2], size=8),
    pool("AveragePool", kernel_shape=[3, 3], ceil_mode=1, strides=[3, 3], opsets=(20,)),
    pool("LpPool", kernel_shape=[2, 2], strides=[2, 2], p=2, opsets=(11, 18)),
    *(pool(op, rank=rank, opsets=(7, 20)) for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool") for rank in (1, 2)),
    # normalization
    *(
        Case(
            "BatchNormalization",
            lambda n, r=rank: [f(n, 3, *(4,) * r), f(3), f(3), f(3), f(3, low=0.2)],
            {"epsilon": 1e-3},
            (9, 14, 20),
            fixed=(1, 2, 3, 4),
        )
        for rank in (0, 1, 2, 3)
    ),
    plain("InstanceNormalization", lambda n: [f(n, 3, 4, 4), f(3), f(3)], (1, 2), (7, 20)),
    plain("GroupNormalization", lambda n: [f(n, 4, 3, 3), f(4), f(4)], (1, 2), (21,), num_groups=2),
    plain("LayerNormalization", lambda n: [f(n, 3, 4), f(4), f(4)], (1, 2)),
    plain("LayerNormalization", lambda n: [f(n, 3, 4), f(3, 4)], (1,), outputs=3, axis=1),
    plain("LRN", lambda n: [f(n, 6, 3, 3)], size=3, alpha=0.01, opsets=(7, 20)),
    plain("LpNormalization", lambda n: [f(n, 4)], p=1, smooth=False),
    plain("LpNormalization", lambda n: [f(n, 4)], axis=1),
    plain("MeanVarianceNormalization", lambda n: [f(n, 3, 4, 4)], opsets=(9, 20)),
    # reductions
    *(
        case
        for op in (
            "ReduceSum",
            "ReduceMean",
            "ReduceL1",
            "ReduceL2",
            "ReduceMax",
            "ReduceMin",
            "ReduceProd",
            "ReduceLogSumExp",
            "ReduceSumSquare",
        )
        for case in reduction(op)
    ),
    *(case for case in reduction("ReduceLogSum", low=0.2)),
    *(
        plain(
            op,
            lambda n: [np.array([[1, 3, 3], [2, 2, 0]] * n, np.float32)],
            opsets=(7, 12, 20) if k == {"axis": 1} else (12, 20),
            smooth=False,
            **k,
        )
        for op in ("ArgMax", "ArgMin")
        for k in ({"axis": 1}, {"axis": -1, "keepdims": 0, "select_last_index": 1})
    ),
    *(plain("CumSum", lambda n: [f(n, 4), np.int64(1)], (1,), (11, 20), exclusive=e, reverse=r) for e in (0, 1) for r in (0, 1)),
    # layout
    plain("Reshape", lambda n: [f(n, 4, 3), i(0, -1)], (1,), (7, 14, 20)),
    *(plain("Flatten", lambda n: [f(n, 4, 3)], axis=axis, opsets=(9, 11, 20) if axis >= 0 else (11,)) for axis in (0, 1, 2, -1)),
    plain("Squeeze", lambda n: [f(n, 1, 3)], opsets=(7, 11), axes=[1]),
    plain("Squeeze", lambda n: [f(n, 1, 3), i(-2)], (1,), (13, 20)),
    plain("Unsqueeze", lambda n: [f(n, 3)], opsets=(7, 11), axes=[0, 3]),
    plain("Unsqueeze", lambda n: [f(n, 3), i(-1, 1)], (1,), (13, 20)),
    plain("Transpose", lambda n: [f(n, 2, 3)], opsets=(7, 20), perm=[0, 2, 1]),
    plain("Transpose", lambda n: [f(n, 2, 3)]),
    plain("Concat", lambda n: [f(n, 2), f(n, 3)], opsets=(7, 20), axis=1),
    plain("Split", lambda n: [f(n, 6)], opsets=(7, 11), outputs=2, axis=1, split=[2, 4]),
    plain("Split", lambda n: [f(n, 6), i(2, 4)], (1,), (13,), outputs=2, axis=1),
    plain("Split", lambda n: [f(n, 7)], opsets=(18,), outputs=3, axis=1, num_outputs=3),
    plain("Slice", lambda n: [f(n, 6)], opsets=(7,), starts=[1], ends=[-1], axes=[1]),
    plain("Slice", lambda n: [f(n, 6), i(1), i(9), i(-1), i(2)], (1, 2, 3, 4), (10, 20)),
    plain("Slice", lambda n: [f(n, 6), i(-1), i(-(2**60)), i(1), i(-2)], (1, 2, 3, 4), (11, 20)),
    plain("Slice", lambda n: [f(n, 6), i(4), i(1), i(1), i(-1)], (1, 2, 3, 4)),
    plain("Slice", lambda n: [f(n, 6), i(0, 5), i(n, 2)], (1, 2)),
    plain("Tile", lambda n: [f(n, 3), i(2, 3)], (1,), (7, 20)),
    plain("Expand", lambda n: [f(n, 1, 3), i(2, 1, 4, 1)], (1,), (8, 20)),
    plain("Pad", lambda n: [f(n, 4)], opsets=(7,), pads=[0, 1, 0, 2], value=0.5),
    *(plain("Pad", lambda n: [f(n, 4, 5), i(0, 1, 2, 0, 2, 1)], (1,), (11, 20), mode=mode) for mode in ("constant", "reflect", "edge")),
    plain("Pad", lambda n: [f(n, 4, 5), i(0, 0, -1, 0, 0, 2), np.float32(3)], (1, 2)),
    plain("Pad", lambda n: [f(n, 4), i(1, 2), None, i(1)], (1, 3), (18,)),
    plain("Pad", lambda n: [f(n, 4), i(0, 2, 0, 1)], (1,), (19,), mode="wrap"),
    *(plain("DepthToSpace", lambda n: [f(n, 8, 2, 3)], opsets=(11, 20), blocksize=2, mode=mode) for mode in ("DCR", "CRD")),
    plain("SpaceToDepth", lambda n: [f(n, 2, 4, 6)], blocksize=2),
    *(plain("Trilu", lambda n: [f(n, 4, 4), np.int64(1)], (1,), upper=u) for u in (0, 1)),
    plain("ReverseSequence", lambda n: [f(4, 3, 2), i(4, 2, 1)], (1,), opsets=(10, 20)),
    plain("ReverseSequence", lambda n: [f(3, 4, 2), i(4, 2, 1)], (1,), batch_axis=0, time_axis=1),
    # index
    *(plain("Gather", lambda n: [f(5, 3), np.array([[0, -1, 2]] * n)], (0,), (11, 20), axis=axis) for axis in (0, 1)),
    plain("Gather", lambda n: [f(n, 3), np.int64(-1)], (1,), axis=1),
    plain("GatherElements", lambda n: [f(n, 3), np.array([[0, -1, 2]] * n)], (1,), (11, 20), axis=1),
    plain("GatherND", lambda n: [f(n, 3, 2), np.array([[[0], [-1]]] * n)], (1,), (12, 20), batch_dims=1),
    plain("GatherND", lambda n: [f(n, 3, 2), np.array([[0, 1], [0, -1]])], (1,)),
    *(
        plain("ScatterElements", lambda n: [f(n, 4), np.array([[1, -1]] * n), f(n, 2)], (1,), (18,), axis=1, reduction=r)
        for r in ("none", "add", "mul", "max", "min")
    ),
    plain("ScatterElements", lambda n: [f(n, 4), np.array([[1, -1]] * n), f(n, 2)], (1,), (11,), axis=1),
    *(
        plain("ScatterND", lambda n: [f(n, 4), np.array([[0, 1], [0, 3]]), f(2)], (1,), (18,), reduction=r)
        for r in ("none", "add", "mul", "max", "min")
    ),
    *(
        plain(
            "OneHot",
            lambda n: [np.array([[0, 2, -1]] * n), np.int64(4), np.array([-1.0, 2.0], np.float32)],
            (1, 2),
            (9, 11, 20),
            axis=axis,
            smooth=False,
        )
        for axis in (-1, 1)
    ),
    plain("NonZero", lambda n: [np.array([[0, 2, -1]] * n, np.float32)], smooth=False),
    plain("Compress", lambda n: [f(n, 3), np.array([True, False, True])], (1,), opsets=(9, 20), axis=1),
    plain("TopK", lambda n: [f(n, 5)], opsets=(7,), outputs=2, k=2, smooth=False),
    *(
        plain("TopK", lambda n: [np.array([[3, 1, 3, 2, 0]] * n, np.float32), i(3)], (1,), (11, 20), outputs=2, largest=b, smooth=False)
        for b in (0, 1)
    ),
    plain("Unique", lambda n: [np.array([[3, 1, 3, 2]] * n, np.float32)], opsets=(11,), outputs=4, smooth=False),
    plain("Shape", lambda n: [f(n, 3, 4)], opsets=(7, 20), smooth=False),
    plain("Shape", lambda n: [f(n, 3, 4)], start=-2, end=5, smooth=False),
    plain("Size", lambda n: [f(n, 3, 4)], smooth=False),
    # source
    *(plain("Cast", lambda n: [f(n, 3) * 3], opsets=(9, 20), smooth=False, to=to) for to in (1, 6, 7, 9, 10, 11)),
    plain("CastLike", lambda n: [f(n, 3), i(1)], smooth=False),
    plain("ConstantOfShape", lambda n: [i(n, 3)], opsets=(9, 20), smooth=False),
    plain("Range", lambda n: [np.int64(1), np.int64(3 * n), np.int64(2)], opsets=(11, 20), smooth=False),
    plain("Range", lambda n: [np.float32(5), np.float32(-n), np.float32(-0.75)], smooth=False),
    plain("EyeLike", lambda n: [f(n, 4)], smooth=False, k=1),
    # resampling
    *(
        plain(
            "Resize",
            lambda n: [f(n, 2, 4, 5), f(0), np.array([1, 1, 2, 1.5], np.float32)],
            (2,),
            (11, 13, 19),
            mode=mode,
            coordinate_transformation_mode=how,
        )
        for mode in ("nearest", "linear")
        for how in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    ),
    plain("Resize", lambda n: [f(n, 2, 4, 5), None, None, i(n, 2, 7, 3)], (3,), (13, 19), mode="linear"),
    plain("Resize", lambda n: [f(n, 2, 6, 6), None, np.array([1, 1, 2, 2], np.float32)], (2,), (13, 19), mode="cubic"),
    plain("Resize", lambda n: [f(n, 2, 8, 8), None, np.array([1, 1, 0.5, 0.5], np.float32)], (2,), (18, 19), mode="linear", antialias=1),
    plain("Resize", lambda n: [f(n, 2, 4, 5), np.array([1, 1, 2, 2], np.float32)], (1,), (10,), mode="nearest"),
    plain("Upsample", lambda n: [f(n, 2, 3, 3), np.array([1, 1, 2, 2], np.float32)], (1,), (9,), mode="nearest"),
    plain("Upsample", lambda n: [f(n, 2, 3, 3)], opsets=(7,), mode="linear", scales=[1.0, 1.0, 2.0, 2.0]),
    *(
        plain("GridSample", lambda n: [f(n, 2, 4, 4), f(n, 3, 3, 2, low=-1.1, high=1.1)], opsets=(16, 20), mode=m, smooth=False)
        for m in ("nearest",)
    ),
    plain("GridSample", lambda n: [f(n, 2, 4, 4), f(n, 3, 3, 2, low=-0.9, high=0.9)], opsets=(20,), align_corners=1, smooth=False),
    # quantization
    plain("QuantizeLinear", lambda n: [f(n, 3), np.float32(0.02), np.uint8(128)], (1, 2), (10, 13, 19), smooth=False),
    plain(
        "DequantizeLinear",
        lambda n: [RNG.integers(0, 255, (n, 3)).astype(np.uint8), np.array([0.1, 0.2, 0.3], np.float32), np.array([1, 2, 3], np.uint8)],
        (1, 2),
        (13, 19),
        smooth=False,
        axis=1,
    ),
    plain("DynamicQuantizeLinear", lambda n: [f(n, 3)], opsets=(11,), outputs=3, smooth=False),
    plain(
        "MatMulInteger",
        lambda n: [RNG.integers(0, 255, (n, 3)).astype(np.uint8), RNG.integers(0, 255, (3, 2)).astype(np.uint8), np.uint8(3), np.uint8(9)],
        (1, 2, 3),
        smooth=False,
    ),
]


def _id(case: Case) -> str:
    return f"{case.op}-{'-'.join(f'{k}={v}' for k, v in case.attributes.items())}"[:80]


EACH = [
    pytest.param(case, opset, rows, id=f"{_id(case)}-opset{opset}-rows{rows}") for case in CASES for opset in case.opsets for rows in ROWS
]


@pytest.mark.parametrize(("case", "opset", "rows"), EACH)
def test_agrees_with_onnx_runtime(case: Case, opset: int, rows: int, one_node, run_ort) -> None:
    inputs = case.inputs(rows)
    for constant in {(), case.fixed}:
        model = one_node(case.op, inputs, case.attributes, opset=opset, outputs=case.outputs, constant=constant)
        expected = run_ort(model, {f"x{k}": np.asarray(a) for k, a in enumerate(inputs) if a is not None})
        twin = build(model)
        assert not twin.unsupported
        assert not twin.gradient_gaps
        got = twin(*(np.asarray(inputs[int(name[1:])]) for name in twin.input_names))
        assert len(got) >= len(expected)
        for mine, theirs in zip(got, expected, strict=False):
            assert tuple(mine.shape) == theirs.shape
            assert mine.numpy().dtype == theirs.dtype
            np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-4, atol=2e-5)


SMOOTH = [pytest.param(case, id=_id(case)) for case in CASES if case.smooth]


@pytest.mark.parametrize("case", SMOOTH)
def test_gradient_agrees_with_finite_differences(case: Case, one_node) -> None:
    inputs = case.inputs(1)
    model = one_node(
        case.op,
        inputs,
        case.attributes,
        opset=case.opsets[-1],
        outputs=case.outputs,
        constant=case.fixed if inputs[0].dtype == np.float32 and 0 not in case.fixed else (),
    )
    twin = build(model).double()
    # float64 all through: what the graph says of its types doesn't bind the twin
    arrays = [np.asarray(inputs[int(name[1:])]) for name in twin.input_names]
    tensors = [
        torch.from_numpy(a.copy()).double().requires_grad_() if a.dtype == np.float32 else torch.from_numpy(a.copy()) for a in arrays
    ]
    assert any(t.requires_grad for t in tensors)

    assert torch.autograd.gradcheck(lambda *xs: tuple(o for o in twin(*xs) if o.requires_grad), tensors, atol=1e-5, fast_mode=True)


def test_at_least_a_hundred_operators_are_native() -> None:
    assert len({name for domain, name in OPERATORS.entries if domain == ""}) >= 150


def test_every_case_names_a_registered_operator() -> None:
    assert {case.op for case in CASES} <= {name for _, name in OPERATORS.entries}

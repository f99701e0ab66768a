"""Which methods by hooks a graph can carry: Captum sees modules only, and what it doesn't see it gets wrong without a word.

Walks the steps between the attributed tensors and the explained one. What depends on the attributed tensors must be a layer
that the method has a rule for, or a plain function that its rule needn't know: one that moves values, or is linear in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import onnx
from torch import nn

from service.explain.twin.module import Segment
from service.explain.twin.program import Step
from service.manifest import Input

LINEAR: Final = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    nn.Identity,
    nn.Dropout,
)
CONVOLUTIONS: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
MAX_POOLS: Final = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
RESCALED: Final = (nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus)
"""What Captum's DeepLIFT has the rescale rule for. (Its rule for Softmax loses completeness.)"""
PASSED: Final = (nn.ReLU, nn.Tanh, nn.Dropout)
"""What Captum's LRP passes relevance through as it is."""
MOVES: Final = frozenset(
    {
        *("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Concat", "Split", "Slice", "Expand", "Tile", "Pad"),
        *("DepthToSpace", "SpaceToDepth", "Trilu", "ReverseSequence", "Gather", "GatherElements", "GatherND", "Compress"),
        *("Cast", "CastLike", "Dropout"),
    }
)
"""Operators that move values, each unchanged."""
SUMS: Final = frozenset(
    {
        *("Add", "Sub", "Neg", "Sum", "Mean", "ReduceSum", "ReduceMean", "AveragePool", "GlobalAveragePool", "CumSum"),
        *("Resize", "Upsample", "BatchNormalization"),
    }
)
PRODUCTS: Final = frozenset(["Mul", "MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum", "Div"])
"""Linear where one of their operands is constant."""
ENDS: Final = frozenset(["Shape", "Size", "ConstantOfShape", "EyeLike", "RandomNormalLike", "RandomUniformLike", "ZerosLike", "OnesLike"])
"""Operators that take no more than a tensor's shape: what they make doesn't depend on its values."""
_FLOATS: Final = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})


@dataclass(frozen=True, slots=True, eq=False)
class Use:
    """A step whose result depends on the attributed tensors."""

    step: Step
    module: nn.Module | None
    active: tuple[int, ...]
    """Places among the step's inputs of those that depend on them."""

    @property
    def name(self) -> str:
        return f"{self.step.node.op_type} {self.step.node.onnx_name or self.step.node.name!r}"

    @property
    def moves(self) -> bool:
        """Whether it is a function that moves values."""
        node = self.step.node
        if self.module is not None or node.domain or node.op_type not in MOVES:
            return False
        if node.op_type in ("Cast", "CastLike"):
            return node.attributes.get("to", onnx.TensorProto.FLOAT) in _FLOATS
        return node.op_type == "Concat" or self.active == (0,)

    @property
    def linear(self) -> bool:
        """Whether it is a function that is linear (affine) in what depends on the attributed tensors."""
        if self.module is not None:
            return False
        operator = self.step.node.op_type
        if self.step.node.domain or self.step.straight_through:
            return False
        if operator in ("Div", "Resize", "Upsample", "BatchNormalization", "CumSum", "ReduceSum", "ReduceMean"):
            return self.active == (0,)
        return operator in SUMS or (operator in PRODUCTS and len(self.active) == 1)


def uses(segment: Segment, start: Sequence[str]) -> tuple[Use, ...]:
    """The steps of `segment` that depend on the tensors `start`, in order."""
    depends = set(start)
    found = []
    modules = segment.twin.compiled.modules
    for step in segment.program.steps:
        if not step.reads & depends or step.node.op_type in ENDS:
            continue
        depends |= set(step.node.outputs) - {""}
        places = tuple(i for i, name in enumerate(step.inputs) if name in depends)
        found.append(Use(step, modules[step.module] if step.module else None, places))
    return tuple(found)


def pads_outside(use: Use) -> bool:
    """Whether a pooling's padding is put on before its module, with minus infinity."""
    attributes = use.step.node.attributes
    padded = any(attributes.get("pads") or ()) or str(attributes.get("auto_pad", "NOTSET")).startswith("SAME")
    padding = getattr(use.module, "padding", 0)
    return padded and not any(padding if isinstance(padding, tuple) else (padding,))


def _overlaps(module: nn.Module) -> bool:
    kernel, stride, dilation = (_sizes(getattr(module, name)) for name in ("kernel_size", "stride", "dilation"))
    return any(k > s for k, s in zip(kernel, stride * len(kernel), strict=False)) or any(d != 1 for d in dilation)


def _sizes(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _kind(use: Use) -> str:
    return type(use.module).__name__


def _no_deep_lift(path: Sequence[Use]) -> Iterator[str]:
    for use in path:
        if use.module is None:
            if not use.linear and not use.moves:
                yield _not_linear(use)
        elif isinstance(use.module, MAX_POOLS):
            if pads_outside(use):
                yield f"{use.name} pads its input on one side, which Captum's rule for it doesn't know"
            elif _overlaps(use.module):
                yield f"{use.name} has windows that overlap, for which Captum's rule isn't complete"
        elif type(use.module) not in LINEAR and type(use.module) not in RESCALED:
            yield f"DeepLIFT has no rule for the {_kind(use)} of {use.name}"


def _no_lrp(path: Sequence[Use]) -> Iterator[str]:
    for use in path:
        if use.module is None:
            if not use.linear and not use.moves:
                yield _not_linear(use)
        elif isinstance(use.module, MAX_POOLS):
            if pads_outside(use):
                yield f"{use.name} pads its input with minus infinity, through which no relevance can be passed"
        elif type(use.module) not in LINEAR and type(use.module) not in PASSED:
            yield f"LRP has no rule for the {_kind(use)} of {use.name}"


def _not_linear(use: Use) -> str:
    if use.step.node.op_type in PRODUCTS and len(use.active) > 1:
        return f"{use.name} multiplies two computed tensors"
    return f"{use.name} is no layer that could be hooked"


def _no_relu(path: Sequence[Use]) -> Iterator[str]:
    inner = [u for u in path if u.module is None and u.step.node.captures]
    if inner:
        yield f"layers inside {inner[0].name} can't be hooked"
    hidden = [u for u in path if u.step.hides]
    if hidden:
        yield f"{hidden[0].name} has its activation within"
    if not any(type(u.module) is nn.ReLU for u in path):
        yield "there is no ReLU layer between its input and its output, so it would be the plain gradient"


def _no_convolution(path: Sequence[Use]) -> Iterator[str]:
    if not any(isinstance(u.module, CONVOLUTIONS) for u in path):
        yield "there is no convolution between its input and its output"


def _no_guided_grad_cam(path: Sequence[Use]) -> Iterator[str]:
    yield from _no_convolution(path)
    yield from _no_relu(path)


OBSTACLES: Final[Mapping[str, Callable[[Sequence[Use]], Iterator[str]]]] = MappingProxyType(
    {
        "deep_lift": _no_deep_lift,
        "deep_lift_shap": _no_deep_lift,
        "lrp": _no_lrp,
        "guided_backprop": _no_relu,
        "deconvolution": _no_relu,
        "grad_cam": _no_convolution,
        "guided_grad_cam": _no_guided_grad_cam,
    }
)
"""Method to what stands in its way in a graph."""


def obstacle(method: str, path: Sequence[Use]) -> str:
    """Why this method can't be had on this path, in words; empty where it can."""
    if method not in OBSTACLES:
        return ""
    reasons = list(dict.fromkeys(OBSTACLES[method](path)))
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"in this model's graph {reasons[0]}{more}" if reasons else ""


def map_axes(entry: Input, shape: Sequence[int | None], wanted: int) -> tuple[int, ...] | None:
    """The axes of a row of this input that the layer's `wanted` spatial axes stand for; None where there are none."""
    if entry.image is not None:
        axes: tuple[int, ...] = (0, 1) if entry.image.layout == "NHWC" else (1, 2)
    elif entry.codec in ("text", "audio"):
        axes = tuple(i for i, size in enumerate(shape) if size != 1 or len(shape) == 1)
    elif len(shape) in (wanted, wanted + 1):
        axes = tuple(range(len(shape) - wanted, len(shape)))  # channels, if any, come first
    else:
        return None
    return axes if len(axes) == wanted else None


def maps_onto(path: Sequence[Use], inputs: Sequence[Input]) -> bool:
    """Whether any convolution's maps have the spatial axes of any of these inputs."""
    ranks = {len(u.module.kernel_size) for u in path if isinstance(u.module, CONVOLUTIONS)}
    return any(map_axes(entry, entry.shape, rank) is not None for entry in inputs for rank in ranks)

"""The layers of a subject: found in its graph, tried out on the served model and on the faithful twin."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from service.errors import WhyserveError
from service.explain.layers.layer import Catalog, Kind, Layer
from service.explain.parity import parity_error
from service.explain.served import Served
from service.explain.subject import Subject, attributed
from service.explain.trial import trial_inputs
from service.explain.twin import UnsupportedOperators
from service.explain.twin.program import Step

Arrays = Mapping[str, NDArray[Any]]

_OPERATORS: Final[Mapping[Kind, str]] = {
    "convolution": "Conv ConvTranspose FusedConv NhwcConv QLinearConv ConvInteger DeformConv",
    "linear": "Gemm MatMul FusedMatMul FusedGemm QLinearMatMul MatMulInteger QGemm",
    "recurrent": "LSTM GRU RNN",
    "attention": "Attention MultiHeadAttention",
    "embedding": "Gather EmbedLayerNormalization",
    "normalisation": "BatchNormalization InstanceNormalization LayerNormalization GroupNormalization RMSNormalization LRN "
    "SkipLayerNormalization MeanVarianceNormalization",
    "activation": "Relu LeakyRelu PRelu ThresholdedRelu Elu Selu Celu Gelu FastGelu QuickGelu BiasGelu Mish Swish HardSwish "
    "HardSigmoid Sigmoid Tanh Softplus Softsign Softmax LogSoftmax Hardmax Clip Erf",
    "pooling": "MaxPool AveragePool LpPool GlobalMaxPool GlobalAveragePool GlobalLpPool MaxRoiPool",
}
_KINDS: Final[Mapping[str, Kind]] = {name: kind for kind, names in _OPERATORS.items() for name in names.split()}
_WEIGHTED: Final = ("MatMul", "FusedMatMul", "Gather", "Clip", "Erf")
"""Layers only where they are a module: of two computed tensors, or as an index, they are arithmetic."""
_KEEP_SPACE: Final = frozenset({"activation", "normalisation", "pooling"})
_CHANNELS_FIRST: Final = ("BatchNormalization", "InstanceNormalization", "GroupNormalization")
_ELEMENTWISE: Final = frozenset({"Add", "Sub", "Mul", "Div", "Sum", "Concat", "Dropout", "Identity", "Resize", "Upsample", "Pad", "Cast"})
_TWIN_FAILS = (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError, KeyError, UnsupportedOperators)
ROWS = 2
"""Of a trial: the axis that has as many is the batch's."""


def catalog(subject: Subject, model: onnx.ModelProto) -> Catalog:
    """All layers of the model, each with what a trial run tells of it."""
    compiled = subject.faithful.compiled
    steps = [step for step in compiled.steps if _is_layer(step)]
    spatial = _spatial(compiled.steps)
    shapes, hooked = _tried(subject, model, steps)
    layers = []
    for step in steps:
        tensor = step.node.outputs[0]
        shape = shapes.get(tensor)
        is_spatial = tensor in spatial and shape is not None and len(shape) >= 3
        note = subject.status.reason or _obstacle(subject, step, shape, hooked)
        name = compiled.onnx_names[step.module] if step.module else step.node.onnx_name or step.node.name
        layers.append(
            Layer(
                name=name,
                operator=step.node.operator,
                kind=_kind(step),
                output=tensor,
                shape=shape,
                parameters=_parameters(subject, step),
                spatial=is_spatial,
                attributable=not note,
                grad_cam=not note and is_spatial and _maps(shape) > 1,
                note=note,
            )
        )
    return Catalog((*layers, *_in_bodies(model.graph)), subject.status.reason)


def module_of(subject: Subject, layer: Layer) -> nn.Module:
    """The layer's module in the faithful twin."""
    return subject.faithful.modules_by_node[layer.name]


def cut_at(subject: Subject, layer: Layer, outputs: Sequence[str]) -> bool:
    """Whether all that these outputs get from the attributed tensors passes this layer."""
    behind = subject.faithful.segment((layer.output,), tuple(outputs))
    return not set(behind.input_names) & {*subject.at, *subject.at.values()} - {layer.output}


@contextlib.contextmanager
def hearing(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Any]]:
    """What each of these modules gives in the passes inside; no hook outlives the block."""
    heard: dict[str, Any] = {}
    handles = [m.register_forward_hook(lambda _m, _i, out, key=key: heard.__setitem__(key, _on_host(out))) for key, m in modules.items()]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _on_host(output: Any) -> Any:
    return output.cpu() if isinstance(output, Tensor) else output


# ------------------------------------------------------------------------------------------------------ what is a layer


def _is_layer(step: Step) -> bool:
    if not step.node.outputs or not step.node.outputs[0]:
        return False
    if step.node.op_type in _WEIGHTED:
        return step.module is not None
    return step.module is not None or step.node.op_type in _KINDS


def _kind(step: Step) -> Kind:
    return _KINDS.get(step.node.op_type, "other")


def _parameters(subject: Subject, step: Step) -> int:
    if step.module is None:
        return 0
    return sum(parameter.numel() for parameter in subject.faithful.get_submodule(step.module).parameters())


def _spatial(steps: Sequence[Step]) -> set[str]:
    """Tensors (N, C, ..) whose axes behind the channels are places: by what the specification says of the operator that makes them,
    kept by what works place by place."""
    found: set[str] = set()
    for step in steps:
        kind = _kind(step)
        inherits = kind in _KEEP_SPACE or step.node.op_type in _ELEMENTWISE
        if kind in ("convolution", "pooling") or step.node.op_type in _CHANNELS_FIRST or (inherits and found & set(step.node.inputs)):
            found.update(step.node.outputs)
    return found


def _maps(shape: Sequence[int | None] | None) -> int:
    """How many places a map has."""
    count = 1
    for size in (shape or ())[2:]:
        count *= size or 1
    return count


def _in_bodies(graph: onnx.GraphProto, around: str = "") -> Iterator[Layer]:
    """Layers in the bodies of If, Loop and Scan."""
    for index, node in enumerate(graph.node):
        if around and node.op_type in _KINDS and node.op_type not in _WEIGHTED:
            yield Layer(
                name=node.name or f"{node.op_type}_{index}",
                operator=node.op_type,
                kind=_KINDS[node.op_type],
                output=node.output[0],
                shape=None,
                parameters=0,
                spatial=False,
                attributable=False,
                grad_cam=False,
                note=f"it stands in the body of {around}, which runs as often as the data asks for",
            )
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _in_bodies(attribute.g, f"the {node.op_type} {node.name!r}")


# ------------------------------------------------------------------------------------------------------------ trying out


def _tried(subject: Subject, model: onnx.ModelProto, steps: Sequence[Step]) -> tuple[dict[str, tuple[int | None, ...]], dict[str, bool]]:
    """The layers' shapes in the served model (None: the batch), and for each module that ran whether it gives the layer's tensor."""
    made = {name for node in model.graph.node for name in node.output}
    tensors = [step.node.outputs[0] for step in steps if step.node.outputs[0] in made]
    try:
        one, feeds, ran = _served(subject, model, tensors)
    except WhyserveError:
        return {}, {}  # random inputs aren't good enough for this model
    shapes = {name: _with_batch_axis(one[name].shape, ran[name].shape) for name in tensors}
    modules = {step.node.outputs[0]: subject.faithful.get_submodule(step.module) for step in steps if step.module}
    if subject.status.reason:
        return shapes, {}
    try:
        with hearing(modules) as heard, torch.no_grad():
            segment = subject.segment(subject.outputs, form="faithful")
            segment(*attributed(subject, feeds, ran), *(feeds[name] for name in subject.others))
    except _TWIN_FAILS:
        return shapes, {}
    agree = {name: same(subject, out, ran[name]) for name, out in heard.items() if name in ran}
    # What stands in a function of the model's own has no tensor in the served graph: the twin alone knows it.
    for name, out in heard.items():
        if name not in ran and isinstance(out, Tensor):
            shapes[name], agree[name] = (None, *out.shape[1:]), True
    return shapes, agree


def _served(subject: Subject, model: onnx.ModelProto, tensors: Sequence[str]) -> tuple[Arrays, Arrays, Arrays]:
    """What one row and ROWS rows give; the rows' feeds between them."""
    served = Served(model, (), (), tuple(dict.fromkeys((*(t for n, t in subject.at.items() if t != n), *tensors))))
    one = served.run(trial_inputs(subject.manifest, served.inputs, model, 1))
    feeds = trial_inputs(subject.manifest, served.inputs, model, ROWS)
    return one, feeds, served.run(feeds)


def _with_batch_axis(one: tuple[int, ...], several: tuple[int, ...]) -> tuple[int | None, ...]:
    axes = [i for i, (a, b) in enumerate(zip(one, several, strict=False)) if a * ROWS == b]
    return tuple(None if axes and i == axes[0] else size for i, size in enumerate(one))


def same(subject: Subject, heard: Any, tensor: NDArray[Any]) -> bool:
    """Whether a module gave this tensor of the served model."""
    if not isinstance(heard, Tensor):
        return False
    return parity_error({"": heard.detach().numpy()}, {"": tensor}) <= subject.status.parity_limit


def _obstacle(subject: Subject, step: Step, shape: tuple[int | None, ...] | None, hooked: Mapping[str, bool]) -> str:
    """Why the layer can't be attributed to; empty where it can."""
    tensor = step.node.outputs[0]
    if step.module is None:
        return "it runs as a plain function in the twin, so there is nothing to hook"
    if step.module in subject.faithful.reused:
        return "it runs several times a pass"
    if shape is None:
        return "the model couldn't be tried with inputs of its kind"
    if shape[:1] != (None,):
        return "the batch isn't the first axis of its tensor"
    if tensor not in hooked:
        places = ", ".join(repr(name) for name in subject.at.values())
        return f"it isn't on the way from where attributions are taken ({places}) to the outputs"
    return "" if hooked[tensor] else "its node is fused with others, or gives several tensors: its module doesn't give what the layer gives"

"""torch to ONNX, checked: what comes out computes what went in, at every batch size and sequence length."""

from __future__ import annotations

import contextlib
import itertools
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.onnx.errors import OnnxExporterError

OPSET = 20
BATCHES = (1, 3)
LENGTHS = (1, 2, 7, 53)
"""Sizes tried for every other dynamic axis: the dynamo export can silently fix the time axis of nn.GRU and nn.LSTM to the
example's length, which only other lengths bring to light."""

TOLERANCE = 1e-5

Sizes = Mapping[str, int]
"""The size of each dynamic axis by its name."""


class ExportError(Exception):
    """The ONNX graph can't be made, or doesn't compute what the torch module computes."""


@dataclass(frozen=True)
class Graph:
    """What to export. `example(sizes)` makes inputs, in the order of `module.forward`, with the dynamic axes as asked.

    `axes` names the dynamic axes of each input, `{"tokens": {0: "batch", 1: "time"}}`; its order is the inputs' order.
    `translations` are for torch operators that have no ONNX form of their own (torch.onnx.export's custom_translation_table).
    """

    module: nn.Module
    axes: Mapping[str, Mapping[int, str]]
    outputs: tuple[str, ...]
    example: Callable[[Sizes], tuple[Tensor, ...]]
    translations: Mapping[Callable[..., Any], Callable[..., Any]] = field(default_factory=dict)

    @property
    def dynamic(self) -> tuple[str, ...]:
        """The names of all dynamic axes, `batch` first."""
        names = dict.fromkeys(name for axes in self.axes.values() for name in axes.values())
        return tuple(sorted(names, key=lambda name: name != "batch"))


def to_onnx(graph: Graph) -> onnx.ModelProto:
    """The ONNX model (opset 20, one file, no metadata), compared with the torch module in ONNX Runtime at batch 1 and 3 and at
    several lengths. Raises ExportError where it is invalid or differs by more than 1e-5 of the largest output."""
    module = graph.module.cpu().eval()
    example = graph.example({name: 2 + 9 * (name != "batch") for name in graph.dynamic})
    try:
        with quiet():
            program = torch.onnx.export(
                module,
                example,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(graph.axes),
                output_names=list(graph.outputs),
                # Names, not torch.export.Dim: with those the time axis of nn.GRU and nn.LSTM is fixed more often, and silently.
                dynamic_shapes=tuple(dict(axes) for axes in graph.axes.values()),
                custom_translation_table=dict(graph.translations) or None,
                verbose=False,
            )
    except OnnxExporterError as error:
        raise ExportError(f"torch can't export {type(module).__name__}: {error.__cause__ or error}") from error
    if program is None:  # only with an output file, which isn't given
        raise ExportError("torch.onnx.export returned nothing")
    model = program.model_proto
    strip(model)
    check(model, graph)
    return model


def strip(model: onnx.ModelProto) -> None:
    """Removes metadata and doc strings everywhere: the exporter writes stack traces with paths of the training machine."""
    model.ClearField("doc_string")
    del model.metadata_props[:]
    for function in model.functions:
        function.ClearField("doc_string")
        del function.metadata_props[:]
        _strip_nodes(function.node)
    _strip_graph(model.graph)


def check(model: onnx.ModelProto, graph: Graph) -> float:
    """Compares `model` in ONNX Runtime with `graph.module` in torch; returns the largest relative difference met.

    Raises ExportError naming the sizes at which the two differ, or why the model is invalid.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(f"the exported graph is invalid: {error}") from error
    names = [value.name for value in session.get_inputs()]
    if names != list(graph.axes) or [value.name for value in session.get_outputs()] != list(graph.outputs):
        raise ExportError(f"the exported graph has inputs {names}, expected {list(graph.axes)} and the outputs {list(graph.outputs)}")
    worst = 0.0
    for sizes in _cases(graph.dynamic):
        inputs = graph.example(sizes)
        with torch.inference_mode():
            expected = graph.module(*inputs)
        expected = (expected,) if isinstance(expected, Tensor) else tuple(expected)
        try:
            actual = session.run(None, dict(zip(names, (tensor.numpy() for tensor in inputs), strict=True)))
        except Exception as error:
            raise ExportError(f"ONNX Runtime can't run the exported graph at {sizes}: {error}") from error
        for name, got, wanted in zip(graph.outputs, actual, expected, strict=True):
            worst = max(worst, _compare(name, got, wanted.numpy(), sizes))
    return worst


def tiled(*examples: Tensor, axes: Mapping[str, Mapping[int, str]]) -> Callable[[Sizes], tuple[Tensor, ...]]:
    """An `example` function for `Graph`: the given inputs, repeated or cut along their dynamic axes to the sizes asked."""

    def example(sizes: Sizes) -> tuple[Tensor, ...]:
        inputs = []
        for tensor, named in zip(examples, axes.values(), strict=True):
            for axis, name in named.items():
                tensor = tensor.index_select(axis, torch.arange(sizes[name]) % tensor.shape[axis])
            inputs.append(tensor)
        return tuple(inputs)

    return example


def _cases(dynamic: tuple[str, ...]) -> Iterator[dict[str, int]]:
    for values in itertools.product(*(BATCHES if name == "batch" else LENGTHS for name in dynamic)):
        yield dict(zip(dynamic, values, strict=True))


def _compare(name: str, got: npt.NDArray[Any], wanted: npt.NDArray[Any], sizes: Sizes) -> float:
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        raise ExportError(f"output {name!r} at {sizes}: {got.dtype}{got.shape} in ONNX Runtime, {wanted.dtype}{wanted.shape} in torch")
    if wanted.size == 0:
        return 0.0
    difference = np.abs(got.astype(np.float64) - wanted).max() / max(1.0, np.abs(wanted).max())
    if not difference <= TOLERANCE:  # NaN fails too
        raise ExportError(
            f"output {name!r} at {sizes} differs from torch by {difference:.2g} of its largest value, allowed {TOLERANCE:.0e}"
        )
    return float(difference)


def _strip_graph(graph: onnx.GraphProto) -> None:
    graph.ClearField("doc_string")
    del graph.metadata_props[:]
    for value in itertools.chain(graph.input, graph.output, graph.value_info, graph.initializer):
        value.ClearField("doc_string")
        del value.metadata_props[:]
    _strip_nodes(graph.node)


def _strip_nodes(nodes: Any) -> None:
    for node in nodes:
        node.ClearField("doc_string")
        del node.metadata_props[:]
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _strip_graph(inner)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's notes on packages it could do without (torchvision) and on its own deprecations."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)

"""What ONNX's shape inference says of a model, without its weights: the inference itself copies whatever it is given, twice."""

from __future__ import annotations

import math

import onnx
import onnx.shape_inference
from onnx import GraphProto, ModelProto, TensorProto

READ = 1024
"""Elements up to which a constant keeps its values: inference reads shapes, axes and the like."""


def inferred(model: ModelProto) -> GraphProto:
    """The model's graph with the types and shapes of its tensors, as far as they can be told; initializers of more than `READ`
    elements have no data."""
    light = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    graph = model.graph
    light.graph.name = graph.name
    light.graph.node.extend(graph.node)
    light.graph.input.extend(graph.input)
    light.graph.output.extend(graph.output)
    light.graph.value_info.extend(graph.value_info)
    light.graph.sparse_initializer.extend(graph.sparse_initializer)
    light.graph.initializer.extend(_light(tensor) for tensor in graph.initializer)
    try:
        return onnx.shape_inference.infer_shapes(light).graph
    except (onnx.shape_inference.InferenceError, ValueError):  # ValueError: still beyond protobuf's 2 GiB
        return light.graph


def _light(tensor: TensorProto) -> TensorProto:
    if math.prod(tensor.dims) <= READ:
        return tensor
    return TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)

"""Reads anybody's ONNX file: whole, sound, and with nothing outside its own folder; or says what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx.external_data_helper
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto

from service.adding.refused import NotAdded

LARGEST = 2**31 - 2**20
"""Bytes: protobuf holds no more in one message. Weights beyond it would have to stay in a file of their own."""


def read_model(file: Path) -> ModelProto:
    """The model with its weights in it. Raises NotAdded: unreadable, no ONNX, refused by the onnx checker, weights elsewhere."""
    model = _parsed(file)
    _check_external(model, file.parent)
    try:
        onnx.external_data_helper.load_external_data_for_model(model, str(file.parent))
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise NotAdded(f"{file.name}: its weights in other files can't be read: {_line(error)}") from None
    if sum(len(tensor.raw_data) for tensor in _tensors(model.graph)) > LARGEST:
        raise NotAdded(f"{file.name} has weights of more than 2 GB: such models aren't added, smaller ones are")
    _check_order(model.graph, file.name)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise NotAdded(f"{file.name} is no sound model, the onnx checker says: {_line(error)}") from None
    return model


def _parsed(file: Path) -> ModelProto:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise NotAdded(f"{str(file)!r} can't be read: {error.strerror}") from None
    if not content:
        raise NotAdded(f"{file.name} is empty")
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError:
        kind = "it is text" if _is_text(content[:4096]) else "it is damaged, cut off, or of another kind"
        raise NotAdded(f"{file.name} is no ONNX file: {kind}") from None
    if not model.graph.node and not model.graph.output:
        raise NotAdded(f"{file.name} holds no graph: expected an ONNX model")
    return model


def _check_order(graph: GraphProto, file: str) -> None:
    """Raises NotAdded where a node reads what nothing makes, or what is made behind it; the checker only says the first input."""
    known = {"", *(value.name for value in graph.input), *(tensor.name for tensor in graph.initializer)}
    known |= {tensor.values.name for tensor in graph.sparse_initializer}
    made = {output for node in graph.node for output in node.output}
    for node in graph.node:
        missing = next((name for name in node.input if name not in known), None)
        if missing in made:
            raise NotAdded(
                f"{file}: a {node.op_type} reads {missing!r}, which is made behind it: the graph has a cycle, or its nodes lack order"
            )
        if missing is not None:
            raise NotAdded(f"{file}: a {node.op_type} reads the tensor {missing!r}, which is no input, no constant and no node's output")
        known |= set(node.output)


def _is_text(start: bytes) -> bool:
    return not any(byte < 9 or 13 < byte < 32 for byte in start)


def _check_external(model: ModelProto, folder: Path) -> None:
    for tensor in _tensors(model.graph):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        path = folder / location
        if not location or Path(location).is_absolute() or ".." in Path(location).parts or path.is_symlink():
            raise NotAdded(f"the weights of {tensor.name!r} lie at {location!r}: outside the model's folder nothing is read")
        if not path.is_file():
            raise NotAdded(f"the weights of {tensor.name!r} lie in {location!r}, which isn't beside the model")
        if folder.resolve() not in path.resolve().parents:
            raise NotAdded(f"the weights of {tensor.name!r} lie at {location!r}: outside the model's folder nothing is read")


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Every tensor of a graph and of the graphs in it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
            for inner in (*([attribute.g] if attribute.type == AttributeProto.GRAPH else []), *attribute.graphs):
                yield from _tensors(inner)


def _line(error: Exception) -> str:
    return " ".join(str(error).replace("==> Context:", "in").split())[:300]

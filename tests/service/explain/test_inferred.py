"""Shape inference without weights: what it says must be what onnx says of the whole model."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.shape_inference
import pytest

from service.explain.inferred import READ, inferred


@pytest.mark.parametrize("name", ["mnist-cnn", "sst2-gru", "fsdd-cnn", "mnist-generator", "wine-mlp"])
def test_types_and_shapes_are_those_of_the_whole_model(name: str) -> None:
    model = onnx.load(Path("models") / name / "1" / "model.onnx")
    whole, found = onnx.shape_inference.infer_shapes(model).graph, inferred(model)
    assert [v.SerializeToString() for v in found.value_info] == [v.SerializeToString() for v in whole.value_info]
    assert [(t.name, t.data_type, tuple(t.dims)) for t in found.initializer] == [
        (t.name, t.data_type, tuple(t.dims)) for t in whole.initializer
    ]


def test_large_constants_have_no_data_and_the_model_keeps_its_own() -> None:
    model = onnx.load("models/mnist-cnn/1/model.onnx")
    before = model.SerializeToString()
    graph = inferred(model)
    large = [t for t in graph.initializer if onnx.numpy_helper.to_array(_tensor(model, t.name)).size > READ]
    assert large
    assert not any(t.raw_data or t.float_data for t in large)
    assert graph.ByteSize() < len(before) / 4
    assert model.SerializeToString() == before


def _tensor(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(t for t in model.graph.initializer if t.name == name)

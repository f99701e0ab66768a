"""A session runs ONNX models and says in words what it can't."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from service.engine.running import TensorInfo
from service.engine.session import Session
from service.errors import BadBundle, BadInput, DeviceMissing, ModelFailed


def save_model(folder: Path, nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]) -> Path:
    model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture
def doubling(tmp_path: Path) -> Path:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])
    return save_model(tmp_path, [helper.make_node("Add", ["x", "x"], ["y"])], [x], [y])


def test_it_declares_inputs_and_outputs_and_runs(doubling: Path):
    session = Session(doubling, "cpu")
    assert session.inputs == (TensorInfo("x", "float32", (None, 3)),)
    assert session.outputs == (TensorInfo("y", "float32", (None, 3)),)
    (y,) = session.run({"x": np.array([[1, 2, 3]], np.float32)})
    assert y.tolist() == [[2, 4, 6]]


def test_a_failing_run_says_why_without_ending_the_session(doubling: Path):
    session = Session(doubling, "cpu")
    with pytest.raises(ModelFailed, match="x"):
        session.run({"x": np.zeros((1, 4), np.float32)})
    assert session.run({"x": np.zeros((1, 3), np.float32)})[0].shape == (1, 3)


def test_an_index_that_a_table_has_no_row_for_is_the_senders_error(tmp_path: Path):
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", 2])
    table = helper.make_node("Constant", [], ["table"], value=helper.make_tensor("t", TensorProto.FLOAT, [4, 1], [0.0, 1.0, 2.0, 3.0]))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2, 1])
    session = Session(save_model(tmp_path, [table, helper.make_node("Gather", ["table", "ids"], ["y"])], [ids], [y]), "cpu")
    with pytest.raises(BadInput, match="index 7 is out of range, this model takes -4 to 3"):
        session.run({"ids": np.asarray([[0, 7]])})
    assert session.run({"ids": np.asarray([[0, 3]])})[0].reshape(-1).tolist() == [0, 3]


def test_a_truncated_file_is_refused_in_words_that_name_no_folder(doubling: Path, tmp_path: Path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(doubling.read_bytes()[:40])
    with pytest.raises(BadBundle, match="ONNX Runtime refuses") as caught:
        Session(broken, "cpu")
    assert str(tmp_path) not in str(caught.value)


def test_a_silent_fall_back_to_the_cpu_is_refused(doubling: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    if "CUDAExecutionProvider" in onnxruntime.capi._pybind_state.get_available_providers():
        pytest.skip("this machine has the CUDA provider")
    with pytest.raises((DeviceMissing, BadBundle)):
        Session(doubling, "cuda")

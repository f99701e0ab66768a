"""ONNX Runtime's errors in words: causes that are known, and what is left of those that aren't."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.engine.refusal import in_words, is_out_of_memory


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from /srv/m/model.onnx failed:Protobuf parsing failed.",
            "damaged, cut off",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Load model from /m.onnx failed:Fatal error: my.ops:Foo(-1) is not a registered function/op",
            "'Foo'",
        ),
        ("std::bad_alloc", "more memory"),
        ("[ONNXRuntimeError] : 1 : FAIL : External data path validation failed for initializer: w. Error: Absolute path", "outside"),
    ],
)
def test_known_causes(said: str, words: str):
    assert words in in_words(RuntimeError(said))


def test_an_unknown_cause_keeps_its_words_and_loses_folders_and_code():
    said = (
        "[ONNXRuntimeError] : 1 : FAIL : Load model from /srv/models/m/1/model.onnx failed:"
        "/onnxruntime_src/onnxruntime/core/graph/model.cc:256 onnxruntime::Model::Model(onnx::ModelProto&&, const std::string&) "
        "Something odd about /srv/models/m/1/model.onnx happened"
    )
    assert in_words(RuntimeError(said), Path("/srv/models/m/1/model.onnx")) == "Something odd about model.onnx happened"
    assert in_words(RuntimeError("")) == "RuntimeError"
    assert len(in_words(RuntimeError("x" * 5000))) <= 400


def test_want_of_memory_is_told_apart():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("Available memory of 1073741568 is smaller than requested bytes of 4294967296"))
    assert not is_out_of_memory(RuntimeError("Got invalid dimensions for input: x"))

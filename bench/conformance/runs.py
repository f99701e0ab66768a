"""One model on each of the machines that are compared: ONNX Runtime, the twin, the twin without its numpy fallback."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import helper
from onnxruntime.capi import _pybind_state as native

from bench.conformance.cases import Case
from bench.conformance.judge import WrongShape, WrongType, WrongValue, compare
from service.explain.twin import Twin, UnsupportedOperators, build
from service.explain.twin.dtypes import as_numpy

Run = Callable[[Sequence[Any]], list[Any]]
PASSED = ""


def outcome(case: Case, prepare: Callable[[onnx.ModelProto], Run]) -> str:
    """`PASSED`, or in a word or two why the case doesn't pass."""
    try:
        run = prepare(case.model)
        for inputs, expected in case.data:
            compare(run(inputs), expected, case.rtol, case.atol)
    except UnsupportedOperators:
        return "unsupported operator"
    except (WrongShape, WrongType, WrongValue) as error:
        return {WrongShape: "wrong shape", WrongType: "wrong element type", WrongValue: "wrong value"}[type(error)]
    except native.NotImplemented:
        return "unsupported operator"
    except (native.Fail, native.InvalidGraph, native.InvalidArgument) as error:
        return "unsupported type or version" if "type" in str(error).lower() or "opset" in str(error).lower() else "refused"
    except Exception as error:
        return type(error).__name__
    return PASSED


def twin(model: onnx.ModelProto) -> Run:
    return _run(build(model))


def native_twin(model: onnx.ModelProto) -> Run:
    """The twin in torch alone: what it would compute in numpy counts as unsupported."""
    return _run(build(model, numpy=False))


def _run(made: Twin) -> Run:
    def run(inputs: Sequence[Any]) -> list[Any]:
        with torch.no_grad():
            values = made(*inputs)
        return [as_numpy(value, made.compiled.kinds[name].element) for name, value in zip(made.output_names, values, strict=True)]

    return run


def onnx_runtime(model: onnx.ModelProto) -> Run:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]

    def run(inputs: Sequence[Any]) -> list[Any]:
        arrays = [np.asarray(i) if isinstance(i, np.generic) else i for i in inputs]
        odd = any(_odd(a) for a in arrays)
        feeds = dict(zip(names, arrays, strict=True))
        if not odd and all(o.type in _PLAIN or not o.type.startswith("tensor") for o in session.get_outputs()):
            return list(session.run(None, feeds))
        made = session.run_with_ort_values(None, {name: _ort_value(array) for name, array in feeds.items()})
        return [as_numpy(torch.from_dlpack(v._ortvalue.to_dlpack())) if v.data_type() not in _PLAIN else v.numpy() for v in made]

    return run


# ONNX Runtime's Python interface takes and gives what numpy has no type for as bytes and DLPack only.
_PLAIN = frozenset(
    f"tensor({t})"
    for t in ["float", "double", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool", "string"]
)


def _odd(array: Any) -> bool:
    """Whether the element type is one of ml_dtypes', not numpy's own."""
    return isinstance(array, np.ndarray) and array.dtype.isbuiltin != 1 and array.dtype.kind not in "OUS"


def _ort_value(array: np.ndarray) -> ort.OrtValue:
    if not _odd(array):
        return ort.OrtValue.ortvalue_from_numpy(array)
    bits = array.view(np.uint8 if array.dtype.itemsize == 1 else np.uint16)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, helper.np_dtype_to_tensor_dtype(array.dtype))

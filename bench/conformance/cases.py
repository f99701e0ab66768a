"""The onnx package's backend test suite as plain data: models, inputs, and the outputs that its authors expect."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TypeProto, numpy_helper
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
"""Those that come whole with the package; "real" models would have to be downloaded."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model, and pairs of inputs and expected outputs, each in the order of the graph's."""

    kind: str
    name: str
    model: onnx.ModelProto
    data: Sequence[tuple[Sequence[Any], Sequence[Any]]]
    rtol: float
    atol: float


def suite() -> Iterator[Case]:
    """All cases of `KINDS`; the node cases are generated while they are loaded, which takes some ten seconds."""
    for kind in KINDS:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # overflows and divisions by zero that the cases are about
            found = load_model_tests(kind=kind)
        for case in sorted(found, key=lambda c: c.name):
            yield _generated(kind, case) if case.model_dir is None else _stored(kind, case, Path(case.model_dir))


def _generated(kind: str, case: TestCase) -> Case:
    assert case.model is not None  # a node case has no folder, but its model and data
    assert case.data_sets is not None
    data = [([_array(i) for i in inputs], [_array(o) for o in outputs]) for inputs, outputs in case.data_sets]
    return Case(kind, case.name, case.model, data, case.rtol, case.atol)


def _stored(kind: str, case: TestCase, folder: Path) -> Case:
    model = onnx.load(folder / "model.onnx")
    data = [
        (
            [_read(path, model.graph.input[i].type) for i, path in enumerate(_numbered(at, "input"))],
            [_read(path, model.graph.output[i].type) for i, path in enumerate(_numbered(at, "output"))],
        )
        for at in sorted(folder.glob("test_data_set*"))
    ]
    return Case(kind, case.name, model, data, case.rtol, case.atol)


def _numbered(folder: Path, what: str) -> list[Path]:
    return [folder / f"{what}_{i}.pb" for i in range(len(list(folder.glob(f"{what}_*.pb"))))]


def _read(path: Path, kind: TypeProto) -> Any:
    if kind.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(path.read_bytes()))
    if kind.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(path.read_bytes()))
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value

"""ONNX files that are broken, hostile or absurd, one folder each: what must never stop a server."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from support import ROOT

GOOD = ROOT / "models" / "wine-perceptron" / "1" / "model.onnx"
CHAIN = 10_000


def _value(name: str, shape: Sequence[int | str]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


X, Y = _value("x", ["N", 3]), _value("y", ["N", 3])


def _model(
    nodes: Sequence[NodeProto],
    constants: Sequence[TensorProto] = (),
    shape: tuple[ValueInfoProto, ValueInfoProto] = (X, Y),
    opset: int = 17,
    ir: int = 8,
    domain: str | None = None,
) -> ModelProto:
    graph = helper.make_graph(nodes, "g", [shape[0]], [shape[1]], list(constants))
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir)


def _external(location: str) -> ModelProto:
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "12")):
        weights.external_data.add(key=key, value=value)
    return _model([helper.make_node("Add", ["x", "w"], ["y"])], [weights])


def _huge(*making: NodeProto) -> ModelProto:
    """A constant of 4 GB, summed up and added to x."""
    constants = [numpy_helper.from_array(np.array([1, 32768, 32768], np.int64), "sizes"), numpy_helper.from_array(np.float32(0), "zero")]
    constants += [numpy_helper.from_array(np.float32(value), name) for name, value in (("limit", 1e9), ("one", 1))]
    total = [helper.make_node("ReduceSum", ["c"], ["total"], keepdims=0), helper.make_node("Add", ["x", "total"], ["y"])]
    return _model([*making, *total], constants)


def _claimed_weights() -> ModelProto:
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1, 2**29], raw_data=b"\0" * 16)
    wide = (_value("x", ["N", 2**29]), _value("y", ["N", 2**29]))
    return _model([helper.make_node("Add", ["x", "w"], ["y"])], [weights], wide)


def _chain(length: int) -> ModelProto:
    names = ["x", *(f"t{i}" for i in range(1, length)), "y"]
    return _model([helper.make_node("Relu", [a], [b]) for a, b in pairwise(names)])


def _relu(**kwargs: object) -> ModelProto:
    return _model([helper.make_node("Relu", ["x"], ["y"])], **kwargs)  # type: ignore[arg-type]


def _cycle() -> ModelProto:
    return _model(
        [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Relu", ["b"], ["y"])]
    )


def contents() -> dict[str, bytes]:
    """File content by name; every one is refused."""
    good = GOOD.read_bytes()
    wide = (_value("x", ["N", 32768, 16384]), _value("y", ["N", 32768, 16384]))
    models = {
        "cycle": _cycle(),
        "missing-tensor": _model([helper.make_node("Add", ["x", "nope"], ["y"])]),
        "unknown-domain": _model([helper.make_node("Foo", ["x"], ["y"], domain="my.ops")], domain="my.ops"),
        "unknown-operator": _model([helper.make_node("Fooo", ["x"], ["y"])]),
        "opset-too-new": _relu(opset=99),
        "opset-too-old": _relu(opset=1),
        "format-too-new": _relu(ir=99),
        "weights-above": _external("../../../etc/hostname"),
        "weights-absolute": _external("/etc/hostname"),
        "weights-linked": _external("link.bin"),
        "weights-nowhere": _external("none.bin"),
        "claimed-input": _relu(shape=wide),
        "claimed-weights": _claimed_weights(),
        "claimed-constant": _huge(helper.make_node("ConstantOfShape", ["sizes"], ["c"])),
        "claimed-expansion": _huge(helper.make_node("Expand", ["zero", "sizes"], ["c"])),
        "claimed-range": _huge(helper.make_node("Range", ["zero", "limit", "one"], ["c"])),
    }
    raw = {"text": b"hello, this is no ONNX file\n" * 5, "empty": b"", "truncated": good[: len(good) // 2], "noise": bytes(range(256)) * 8}
    return {name: model.SerializeToString() for name, model in models.items()} | raw


WORDS = {
    "cycle": "cycle",
    "missing-tensor": "'nope'",
    "unknown-domain": "my.ops",
    "unknown-operator": "Fooo",
    "opset-too-new": "99",
    "opset-too-old": "Relu",
    "format-too-new": "99",
    "weights-above": "outside",
    "weights-absolute": "outside",
    "weights-linked": "outside",
    "weights-nowhere": "'w'",
    "claimed-input": "2048 MiB",
    "claimed-weights": "2147483648 bytes",
    "claimed-constant": "memory",
    "claimed-expansion": "memory",
    "claimed-range": "memory",
    "text": "no ONNX file",
    "empty": "empty",
    "truncated": "cut off",
    "noise": "damaged",
}
"""What the reason must hold, by the server and by `whyserve add`."""


def write_all(root: Path) -> list[Path]:
    """`root/NAME/1/model.onnx` of each, and a long chain, which is no error."""
    files = []
    for name, content in (contents() | {"chain": _chain(CHAIN).SerializeToString()}).items():
        file = root / name / "1" / "model.onnx"
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
        if name == "weights-linked":
            (file.parent / "link.bin").symlink_to("/etc/passwd")
        files.append(file)
    return files

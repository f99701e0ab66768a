"""What the tests of methods by perturbation share: bundles of any ONNX model, questions, and F by ONNX Runtime itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from service.explain.answer import Explanation
from service.explain.cancel import Token
from service.explain.explainer import explain
from service.explain.loading import load
from service.explain.methods import resolve
from service.explain.methods.request import with_companions
from service.explain.subject import Subject
from service.manifest import MODEL_FILE, Batching, Explain, Input, Manifest, Output, sha256_of
from service.repository.bundle import Location, read_bundle

MEMORY = 64 << 20
VALUE = (Output(name="y", kind="value", dtype="float32", shape=(1,)),)
BY_VALUE = Explain(output="value", method="feature_ablation")
MIXED = Batching()


def subject_of(
    folder: Path,
    model: onnx.ModelProto,
    inputs: Sequence[Input],
    outputs: Sequence[Output] = VALUE,
    explain: Explain = BY_VALUE,
    batching: Batching = MIXED,
) -> Subject:
    folder.mkdir(parents=True)
    onnx.save(model, folder / MODEL_FILE)
    manifest = Manifest(
        name="m",
        version=1,
        task="other",
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        explain=explain,
        batching=batching,
        files={MODEL_FILE: sha256_of(folder / MODEL_FILE)},
    )
    manifest.write(folder)
    return load(read_bundle(Location("m", 1, folder)))


def graph(nodes: Sequence[onnx.NodeProto], inputs: Any, outputs: Any, **constants: Any) -> onnx.ModelProto:
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*i) for i in inputs],
        [helper.make_tensor_value_info(*o) for o in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def ask(
    subject: Subject, tensors: dict[str, np.ndarray], token: Token | None = None, memory: int = MEMORY, **parameters: Any
) -> list[Explanation]:
    """Tensors may hold companions, named as on the wire."""
    request, rows = with_companions(resolve(subject.manifest, parameters), tensors, {info.name for info in subject.served.inputs})
    return list(explain(subject, request, rows, token or Token(60), memory).explanations)


def outputs_of(folder: Path, feeds: dict[str, np.ndarray], output: str | None = None) -> np.ndarray:
    session = ort.InferenceSession(str(folder / MODEL_FILE), providers=["CPUExecutionProvider"])
    return session.run(None if output is None else [output], feeds)[0]


def shapley_by_enumeration(value: Callable[[np.ndarray], float], features: int) -> np.ndarray:
    """By the definition, over all sets."""
    values = {z: value(np.asarray(z, bool)) for z in itertools.product((0, 1), repeat=features)}
    found = np.zeros(features)
    for z, v in values.items():
        for k in range(features):
            if not z[k]:
                size = sum(z)
                weight = math.factorial(size) * math.factorial(features - size - 1) / math.factorial(features)
                found[k] += weight * (values[(*z[:k], 1, *z[k + 1 :])] - v)
    return found

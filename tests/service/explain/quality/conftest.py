"""Cases of small models, as an explainer makes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from support import MODELS

from service.explain.cancel import Token
from service.explain.case import Case
from service.explain.loading import load
from service.explain.methods import resolve
from service.explain.subject import Subject
from service.manifest import MODEL_FILE, Input, Manifest, Output, sha256_of
from service.repository.bundle import Location, read_bundle

torch.set_num_threads(1)
MakeCase = Callable[..., Case]


@pytest.fixture(scope="session")
def case_of() -> MakeCase:
    def made(subject: Subject, feeds: dict[str, np.ndarray], token: Token | None = None, **parameters: Any) -> Case:
        return Case(subject, resolve(subject.manifest, parameters), feeds, parameters.get("target"), token or Token(60), 64 << 20)

    return made


def committed(name: str, models: Path = MODELS) -> Subject:
    return load(read_bundle(Location(name, 1, models / name / "1")))


@pytest.fixture(scope="session")
def mnist() -> Subject:
    return committed("mnist-cnn")


@pytest.fixture(scope="session")
def sst2() -> Subject:
    return committed("sst2-gru")


@pytest.fixture(scope="session")
def gemm(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Subject]:
    """Makes y = w x + b, three values in and one out."""

    def made(name: str, weights: list[float], bias: float, output: Output) -> Subject:
        folder = tmp_path_factory.mktemp(name) / name / "1"
        folder.mkdir(parents=True)
        constants = {"w": np.asarray([weights], np.float32).T, "b": np.asarray([bias], np.float32)}
        graph = helper.make_graph(
            [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
            name,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
            [numpy_helper.from_array(array, key) for key, array in constants.items()],
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / MODEL_FILE)
        Manifest(
            name=name,
            version=1,
            task="other",
            inputs=(Input(name="x", codec="tensor", dtype="float32", shape=(3,)),),
            outputs=(output,),
            files={MODEL_FILE: sha256_of(folder / MODEL_FILE)},
        ).write(folder)
        return load(read_bundle(Location(name, 1, folder)))

    return made

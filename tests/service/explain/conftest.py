"""Small bundles whose explanations are known in closed form, or by Captum on the torch module they were exported from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto as T
from onnx import helper, numpy_helper
from torch import nn

from service.explain.loading import load
from service.explain.subject import Subject
from service.manifest import MODEL_FILE, Baseline, Explain, Input, Manifest, Output, TextPolicy, sha256_of
from service.repository.bundle import Location, read_bundle

torch.set_num_threads(1)


def pytest_asyncio_loop_factories(item: pytest.Function) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loops that a module's `LOOPS` names, each test on all of them; else asyncio's."""
    loops: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = getattr(item.module, "LOOPS", {"asyncio": asyncio.new_event_loop})
    return loops


IR_VERSION = 10


@dataclass(frozen=True)
class Recipe:
    """A graph and what its manifest says of it."""

    nodes: Sequence[onnx.NodeProto]
    inputs: Sequence[tuple[str, int, Sequence[Any]]]
    outputs: Sequence[tuple[str, int, Sequence[Any]]]
    described_inputs: tuple[Input, ...]
    described_outputs: tuple[Output, ...]
    explain: Explain
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    task: str = "regression"


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def _tensor(name: str, *shape: int | None, dtype: str = "float32", **more: Any) -> Input:
    return Input(name=name, codec="tensor", dtype=dtype, shape=shape, **more)


def product() -> Recipe:
    """y = x0 * x1 + 3 x2: integrated gradients from zero are (x0 x1 / 2, x0 x1 / 2, 3 x2)."""
    nodes = [
        helper.make_node("Split", ["x", "sizes"], ["a", "b", "c"], axis=1),
        helper.make_node("Mul", ["a", "b"], ["ab"]),
        helper.make_node("Mul", ["c", "three"], ["c3"]),
        helper.make_node("Add", ["ab", "c3"], ["y"]),
    ]
    return Recipe(
        nodes,
        [("x", T.FLOAT, ["n", 3])],
        [("y", T.FLOAT, ["n", 1])],
        (_tensor("x", 3),),
        (Output(name="y", kind="value", dtype="float32", shape=(1,)),),
        Explain(output="value"),
        {"sizes": np.asarray([1, 1, 1], np.int64), "three": np.float32(3)},
    )


def linear() -> Recipe:
    """Four scores, W x + b: integrated gradients from b0 are W_t (x - b0), exactly."""
    return Recipe(
        [helper.make_node("Gemm", ["x", "w", "b"], ["scores"], transB=1)],
        [("x", T.FLOAT, ["n", 5])],
        [("scores", T.FLOAT, ["n", 4])],
        (_tensor("x", 5),),
        (Output(name="scores", kind="classes", dtype="float32", shape=(4,), labels=("a", "b", "c", "3"), activation="softmax"),),
        Explain(output="logit", baseline={"x": Baseline(kind="constant", value=0.5)}),
        {"w": weights(4, 5), "b": weights(4)},
        "classification",
    )


def activated() -> Recipe:
    """As `linear`, ending in its softmax."""
    base = linear()
    output = Output(
        name="p", kind="classes", dtype="float32", shape=(4,), labels=("a", "b", "c", "d"), activation="softmax", activated=True
    )
    nodes = [*base.nodes, helper.make_node("Softmax", ["scores"], ["p"])]
    return Recipe(
        nodes, base.inputs, [("p", T.FLOAT, ["n", 4])], base.described_inputs, (output,), Explain(output="logit"), base.constants, base.task
    )


def single() -> Recipe:
    """One score of a sigmoid, for two classes."""
    return Recipe(
        [helper.make_node("Gemm", ["x", "w"], ["score"])],
        [("x", T.FLOAT, ["n", 3])],
        [("score", T.FLOAT, ["n", 1])],
        (_tensor("x", 3),),
        (Output(name="score", kind="classes", dtype="float32", shape=(1,), labels=("no", "yes"), activation="sigmoid"),),
        Explain(output="logit"),
        {"w": np.asarray([[1.0], [-2.0], [0.5]], np.float32)},
        "classification",
    )


def text() -> Recipe:
    """tokens, lengths -> embedded -> bidirectional GRU -> last states -> two scores."""
    hidden, size = 5, 4
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["embedded"]),
        helper.make_node("Transpose", ["embedded"], ["by_time"], perm=[1, 0, 2]),
        helper.make_node("Cast", ["lengths"], ["lens"], to=T.INT32),
        helper.make_node(
            "GRU", ["by_time", "w", "r", "b", "lens"], ["", "last"], hidden_size=hidden, direction="bidirectional", linear_before_reset=1
        ),
        helper.make_node("Transpose", ["last"], ["by_row"], perm=[1, 0, 2]),
        helper.make_node("Flatten", ["by_row"], ["flat"]),
        helper.make_node("Gemm", ["flat", "head"], ["scores"]),
    ]
    table = weights(20, size, seed=1)
    table[0] = 0
    constants = {
        "table": table,
        "w": weights(2, 3 * hidden, size, seed=2),
        "r": weights(2, 3 * hidden, hidden, seed=3),
        "b": weights(2, 6 * hidden, seed=4),
        "head": weights(2 * hidden, 2, seed=5),
    }
    return Recipe(
        nodes,
        [("tokens", T.INT64, ["n", "t"]), ("lengths", T.INT64, ["n"])],
        [("scores", T.FLOAT, ["n", 2])],
        (Input(name="tokens", codec="text", dtype="int64", shape=(None,), text=TextPolicy(max_length=50, lengths="lengths")),),
        (Output(name="scores", kind="classes", dtype="float32", shape=(2,), labels=("bad", "good"), activation="softmax"),),
        Explain(output="logit", attribute_at={"tokens": "embedded"}, baseline={"tokens": Baseline(kind="token", value=0)}),
        constants,
        "classification",
    )


def generator() -> Recipe:
    """latent and class -> an image of 1 x 4 x 6, the class by its one-hot vector."""
    nodes = [
        helper.make_node("OneHot", ["class", "depth", "off_on"], ["onehot"]),
        helper.make_node("MatMul", ["latent", "wl"], ["from_latent"]),
        helper.make_node("MatMul", ["onehot", "wc"], ["from_class"]),
        helper.make_node("Mul", ["from_latent", "from_class"], ["both"]),
        helper.make_node("Reshape", ["both", "shape"], ["image"]),
    ]
    constants = {
        "depth": np.int64(3),
        "off_on": np.asarray([0, 1], np.float32),
        "wl": weights(4, 24, seed=6),
        "wc": weights(3, 24, seed=7),
        "shape": np.asarray([-1, 1, 4, 6], np.int64),
    }
    return Recipe(
        nodes,
        [("latent", T.FLOAT, ["n", 4]), ("class", T.INT64, ["n"])],
        [("image", T.FLOAT, ["n", 1, 4, 6])],
        (_tensor("latent", 4), _tensor("class", dtype="int64", labels=("0", "1", "2"))),
        (Output(name="image", kind="image", dtype="float32", shape=(1, 4, 6), layout="NCHW"),),
        Explain(output="value", attribute_at={"class": "onehot"}, baseline={"class": Baseline(kind="constant", value=1 / 3)}),
        constants,
        "generation",
    )


RECIPES = {f.__name__: f for f in (product, linear, activated, single, text, generator)}


def write_bundle(root: Path, name: str, recipe: Recipe) -> None:
    folder = root / name / "1"
    folder.mkdir(parents=True)
    graph = helper.make_graph(
        recipe.nodes,
        name,
        [helper.make_tensor_value_info(*i) for i in recipe.inputs],
        [helper.make_tensor_value_info(*o) for o in recipe.outputs],
        [numpy_helper.from_array(np.asarray(array), key) for key, array in recipe.constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=IR_VERSION), folder / MODEL_FILE)
    describe(folder, name, recipe)


def describe(folder: Path, name: str, recipe: Recipe) -> None:
    (folder / "tokenizer.json").write_text("{}")  # named by text manifests; no explanation reads it
    files = {MODEL_FILE: sha256_of(folder / MODEL_FILE), "tokenizer.json": sha256_of(folder / "tokenizer.json")}
    Manifest(
        name=name,
        version=1,
        task=recipe.task,  # type: ignore[arg-type]
        inputs=recipe.described_inputs,
        outputs=recipe.described_outputs,
        explain=recipe.explain,
        files=files,
    ).write(folder)


class SmallCnn(nn.Module):
    """What the bundle `cnn` was exported from."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv1, self.norm, self.relu1 = nn.Conv2d(1, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU()
        self.conv2, self.relu2, self.pool = nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        self.head = nn.Linear(8 * 9, 10)
        self.norm.running_mean.uniform_(-0.2, 0.2)
        self.norm.running_var.uniform_(0.5, 1.5)
        self.eval()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.relu1(self.norm(self.conv1(image / 255 - 0.3)))  # (N, 6, 6, 6)
        return self.head(self.pool(self.relu2(self.conv2(x))).flatten(1))


@pytest.fixture(scope="session")
def cnn_module() -> SmallCnn:
    return SmallCnn()


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory, cnn_module: SmallCnn) -> Path:
    """A model repository with all of the above, and the torch module exported as `cnn`."""
    root = tmp_path_factory.mktemp("models")
    for name, recipe in RECIPES.items():
        write_bundle(root, name, recipe())
    folder = root / "cnn" / "1"
    folder.mkdir(parents=True)
    example = (torch.rand(2, 1, 12, 12) * 255,)
    program = torch.onnx.export(
        cnn_module, example, dynamo=True, dynamic_shapes=({0: "n"},), input_names=["image"], output_names=["logits"], verbose=False
    )
    assert program is not None
    program.save(folder / MODEL_FILE)
    output = Output(name="logits", kind="classes", dtype="float32", shape=(10,), labels=tuple("0123456789"), activation="softmax")
    image = _tensor("image", 1, 12, 12, range=(0, 255))
    describe(folder, "cnn", Recipe([], [], [], (image,), (output,), Explain(output="logit"), task="classification"))
    return root


@pytest.fixture(scope="session")
def subjects(bundles: Path) -> Mapping[str, Subject]:
    return {name: load(read_bundle(Location(name, 1, bundles / name / "1"))) for name in (*RECIPES, "cnn")}


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return np.random.default_rng(5).uniform(0, 255, (6, 1, 12, 12)).astype(np.float32)

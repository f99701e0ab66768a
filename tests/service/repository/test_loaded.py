"""Loading: the manifest held against the graph, and bare models described by their own graph."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from service.codecs.instance import Limits
from service.manifest import MODEL_FILE, Manifest, sha256_of
from service.repository.bundle import BadBundle, Location, read_bundle
from service.repository.loaded import LoadedModel, Loader
from service.telemetry import Metrics

SUM = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[N, 3] x, float[N, 3] y) => (float[N, 3] total, float[N, 3] difference)
{
    total = Add(x, y)
    difference = Sub(x, y)
}
"""
FIXED = SUM.replace("[N, 3]", "[4, 3]")
MIXED = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[N, K] x) => (float[N, K] y)
{
    two = Constant <value_int: int = 0> ()
    y = CumSum(x, two)
}
"""
SQUARES = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[N, K, K] x) => (float[N, K, K] y)
{
    a = MatMul(x, x)
    y = MatMul(a, a)
}
"""
TENSOR: dict[str, Any] = {"dtype": "float32", "shape": [3]}
DECLARED: dict[str, Any] = {
    "name": "sum",
    "version": 1,
    "task": "other",
    "inputs": [{"name": "x", "codec": "tensor"} | TENSOR, {"name": "y", "codec": "tensor"} | TENSOR],
    "outputs": [{"name": "total", "kind": "tensor"} | TENSOR],
}


@pytest.fixture
def loader() -> Iterator[Loader]:
    with ThreadPoolExecutor(1) as executor:
        yield Loader("cpu", 1, Limits(max_pixels=100, max_characters=100, max_instances=8), executor, Metrics())


def write(folder: Path, graph: str, manifest: dict[str, Any] | None = None) -> Location:
    onnx.save(onnx.parser.parse_model(graph), str(folder / MODEL_FILE))
    if manifest is not None:
        files = {MODEL_FILE: sha256_of(folder / MODEL_FILE)}
        Manifest.model_validate(manifest | {"files": files}).write(folder)
    return Location("sum", 1, folder)


def load(loader: Loader, location: Location) -> LoadedModel:
    return loader.load(read_bundle(location))


async def test_a_model_that_fits_its_manifest_runs(loader: Loader, tmp_path: Path):
    model = load(loader, write(tmp_path, SUM, DECLARED))
    x, y = np.float32([[1, 2, 3]]), np.float32([[10, 20, 30]])
    total, difference = await model.batcher.run({"x": x, "y": y})
    np.testing.assert_array_equal(total, x + y)
    np.testing.assert_array_equal(difference, x - y)


def test_the_folder_names_the_model(loader: Loader, tmp_path: Path):
    location = write(tmp_path, SUM, DECLARED | {"name": "another", "version": 7})
    model = load(loader, location)
    assert (model.name, model.version) == ("sum", 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs": DECLARED["inputs"][:1]}, "inputs are"),
        ({"inputs": [*DECLARED["inputs"], {"name": "z", "codec": "tensor"} | TENSOR]}, "inputs are"),
        ({"inputs": [DECLARED["inputs"][0] | {"dtype": "int64"}, DECLARED["inputs"][1]]}, "int64"),
        ({"inputs": [DECLARED["inputs"][0] | {"shape": [4]}, DECLARED["inputs"][1]]}, r"\[4\]"),
        ({"inputs": [DECLARED["inputs"][0] | {"shape": [3, 1]}, DECLARED["inputs"][1]]}, r"\[3, 1\]"),
        ({"outputs": [{"name": "product", "kind": "tensor"} | TENSOR]}, "product"),
        ({"outputs": [{"name": "total", "kind": "tensor"} | TENSOR | {"shape": [2]}]}, r"\[2\]"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(loader: Loader, tmp_path: Path, changes: dict[str, Any], words: str):
    with pytest.raises(BadBundle, match=words):
        load(loader, write(tmp_path, SUM, DECLARED | changes))


def test_a_file_that_is_no_model(loader: Loader, tmp_path: Path):
    (tmp_path / MODEL_FILE).write_bytes(b"no onnx")
    with pytest.raises(BadBundle, match="ONNX Runtime refuses") as caught:
        load(loader, Location("sum", 1, tmp_path))
    assert str(tmp_path) not in str(caught.value)


def test_a_bare_model_is_described_by_its_graph(loader: Loader, tmp_path: Path):
    manifest = load(loader, write(tmp_path, MIXED)).manifest
    assert [(i.name, i.dtype, i.shape, i.codec) for i in manifest.inputs] == [("x", "float32", (None,), "tensor")]
    assert [(o.name, o.dtype, o.shape, o.kind) for o in manifest.outputs] == [("y", "float32", (None,), "tensor")]
    assert not manifest.batching.rows_independent  # nobody said that they are, and here they aren't


async def test_rows_of_strangers_are_never_mixed_in_a_bare_model(loader: Loader, tmp_path: Path):
    """A cumulative sum along the batch: whoever shares a run would see the others' numbers."""
    model = load(loader, write(tmp_path, MIXED))
    ones = np.ones((1, 2), np.float32)
    answers = await asyncio.gather(*(model.batcher.run({"x": ones}) for _ in range(5)))
    for (answer,) in answers:
        np.testing.assert_array_equal(answer, ones)


def test_a_fixed_batch_is_noticed(loader: Loader, tmp_path: Path):
    assert load(loader, write(tmp_path, FIXED)).manifest.batching.max == 4


async def test_an_input_without_a_longest_size_never_runs_on_the_event_loop(loader: Loader, tmp_path: Path):
    """Quick for a small one says nothing of a large one, which would hold up everybody's answers."""
    model = load(loader, write(tmp_path, SQUARES))
    answering = model.batcher.run({"x": np.ones((1, 1500, 1500), np.float32)})
    turns = 0
    while not answering.done():
        await asyncio.sleep(0.001)
        turns += 1
    await answering
    assert turns > 10


def test_a_type_that_cannot_be_sent(loader: Loader, tmp_path: Path):
    graph = """
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (seq(float[N]) x) => (float[M] y)
    {
        y = ConcatFromSequence <axis = 0> (x)
    }
    """
    with pytest.raises(BadBundle, match="can't be sent"):
        load(loader, write(tmp_path, graph))

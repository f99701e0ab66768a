"""Runs over bound buffers give what direct runs give. On the CPU, whose IO binding is the GPU's; graphs' ids are ignored there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from service.engine.running import Bound, Direct, Place, on_device
from service.engine.session import Session

CPU = Place("cpu")
TWO = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[N, 3] x, int64[N] k) => (float[N, 3] y, int64[N] twice)
{
    axes = Constant <value_ints: ints = [1]> ()
    f = Cast <to: int = 1> (k)
    column = Unsqueeze(f, axes)
    y = Mul(x, column)
    twice = Add(k, k)
}
"""
SOME = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[N, 3] x) => (float[M, 3] y)
{
    one = Constant <value_ints: ints = [1]> ()
    zero = Constant <value_float: float = 0.0> ()
    sums = ReduceSum <keepdims: int = 0> (x, one)
    chosen = Greater(sums, zero)
    y = Compress <axis: int = 0> (x, chosen)
}
"""


def opened(folder: Path, graph: str = TWO) -> tuple[ort.InferenceSession, Session]:
    path = folder / "model.onnx"
    onnx.save(onnx.parser.parse_model(graph), str(path))
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"]), Session(path, "cpu")


def feeds(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    numbers = np.random.default_rng(seed)
    return {"x": numbers.normal(size=(rows, 3)).astype(np.float32), "k": numbers.integers(0, 9, rows)}


def check(outputs: list[np.ndarray], given: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(outputs[0], given["x"] * given["k"][:, None].astype(np.float32))
    np.testing.assert_array_equal(outputs[1], given["k"] * 2)


@pytest.mark.parametrize("graphs", [False, True])
def test_buffers_are_used_again_and_the_outputs_stay_their_owners(tmp_path: Path, graphs: bool):
    plain, session = opened(tmp_path)
    bound = Bound(plain, session.inputs, session.outputs, CPU, graphs=graphs)
    asked = [feeds(rows, seed) for seed, rows in enumerate([1, 4, 1, 2, 4, 4, 1])]
    answers = [bound.run(given) for given in asked]
    for given, outputs in zip(asked, answers, strict=True):  # all at the end: a later run must not have written into an answer
        check(outputs, given)
        check(bound.run_directly(given), given)


def test_a_reversed_or_cut_array_is_read_as_it_is(tmp_path: Path):
    plain, session = opened(tmp_path)
    bound = Bound(plain, session.inputs, session.outputs, CPU)
    whole = feeds(8)
    for part in (slice(None, None, -1), slice(1, 7, 2)):
        given = {name: array[part] for name, array in whole.items()}
        check(bound.run(given), given)


def test_batch_sizes_beyond_those_kept_go_the_direct_way(tmp_path: Path):
    plain, session = opened(tmp_path)
    bound = Bound(plain, session.inputs, session.outputs, CPU, kept=2)
    for rows in (1, 2, 3, 4, 2, 1, 5):
        check(bound.run(feeds(rows)), feeds(rows))


def test_what_is_not_as_declared_is_refused_as_without_buffers(tmp_path: Path):
    plain, session = opened(tmp_path)
    bound = Bound(plain, session.inputs, session.outputs, CPU)
    good = feeds(2)
    bound.run(good)
    for wrong in (
        good | {"x": np.zeros((2, 4), np.float32)},
        good | {"x": np.zeros((2, 3))},
        good | {"k": np.zeros(3, np.int64)},
        {"x": good["x"]},
    ):
        said = []
        for run in (bound.run, Direct(plain).run):
            with pytest.raises(Exception, match=r".") as caught:  # ONNX Runtime's own classes
                run(wrong)
            said.append((type(caught.value), str(caught.value)))
        assert said[0] == said[1]
    check(bound.run(good), good)


def test_threads_share_the_buffers_one_after_the_other(tmp_path: Path):
    plain, session = opened(tmp_path)
    bound = Bound(plain, session.inputs, session.outputs, CPU)
    asked = [feeds(1 + seed % 3, seed) for seed in range(60)]
    with ThreadPoolExecutor(4) as threads:
        for given, outputs in zip(asked, threads.map(bound.run, asked), strict=True):
            check(outputs, given)


def test_only_models_whose_rows_are_all_that_varies_have_buffers(tmp_path: Path):
    plain, session = opened(tmp_path, TWO.replace("[N, 3]", "[N, K]"))
    assert not Bound.fits(session.inputs, session.outputs)
    assert isinstance(on_device(plain, lambda: plain, session.inputs, session.outputs, CPU), Direct)


def test_a_model_that_cannot_be_captured_keeps_its_buffers(tmp_path: Path):
    plain, session = opened(tmp_path)

    def refused() -> ort.InferenceSession:
        raise RuntimeError("This session cannot use the graph capture feature")

    for capturing in (lambda: plain, refused):
        running = on_device(plain, capturing, session.inputs, session.outputs, CPU)
        assert isinstance(running, Bound)
        check(running.run(feeds(3)), feeds(3))


def test_outputs_that_have_not_as_many_rows_as_inputs_go_the_direct_way(tmp_path: Path):
    plain, session = opened(tmp_path, SOME)
    running = on_device(plain, lambda: plain, session.inputs, session.outputs, CPU)
    assert isinstance(running, Direct)
    assert running.run({"x": np.float32([[1, 2, 3], [-1, -2, -3]])})[0].tolist() == [[1, 2, 3]]

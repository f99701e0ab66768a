"""Warming up: which shapes the model has run before anybody asks, counted and not timed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from service.engine.running import TensorInfo
from service.engine.session import OutOfMemory
from service.errors import ModelFailed
from service.manifest import MODEL_FILE, Manifest
from service.repository.bundle import BadBundle
from service.repository.warming import warm_up


class Noting:
    """A model with one input x that counts its runs by shape; a row takes `row_seconds` on the clock that it is."""

    def __init__(self, batch: int | None = None, row_seconds: float = 0.0, refused: dict[tuple[int, ...], Exception] | None = None) -> None:
        self.inputs = (TensorInfo("x", "float32", (batch, None)),)
        self.runs: Counter[tuple[int, ...]] = Counter()
        self.feeds: list[dict[str, np.ndarray]] = []
        self._row_seconds, self._refused, self._now = row_seconds, refused or {}, 0.0

    def run(self, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        shape = next(iter(feeds.values())).shape
        self.runs[shape] += 1
        self.feeds.append(feeds)
        self._now += self._row_seconds * shape[0]
        if shape in self._refused:
            raise self._refused[shape]
        return []

    def clock(self) -> float:
        return self._now


def manifest(inputs: list[dict[str, Any]] | None = None, **batching: Any) -> Manifest:
    return Manifest.model_validate(
        {
            "name": "m",
            "version": 1,
            "task": "other",
            "inputs": inputs or [{"name": "x", "codec": "tensor", "dtype": "float32", "shape": [3]}],
            "outputs": [{"name": "y", "kind": "tensor", "dtype": "float32", "shape": [3]}],
            "batching": batching,
            "files": dict.fromkeys((MODEL_FILE, "t.json"), "0" * 64),
        }
    )


def test_each_batch_size_that_will_come_has_run_twice():
    session = Noting()
    warmth = warm_up(manifest(max=24), session, session.clock)
    assert tuple(warmth.taken) == (1, 2, 4, 8, 16, 24)
    assert {shape: runs for shape, runs in session.runs.items() if runs < 2} == {}
    assert set(session.runs) == {(rows, 3) for rows in warmth.taken}
    assert warmth.seconds == 0


@pytest.mark.parametrize(("most", "batches"), [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (32, (1, 2, 4, 8, 16, 32))])
def test_sizes_up_to_the_largest_batch(most: int, batches: tuple[int, ...]):
    session = Noting()
    assert tuple(warm_up(manifest(max=most), session, session.clock).taken) == batches


def test_rows_that_are_never_batched_are_warmed_alone():
    session = Noting()
    assert tuple(warm_up(manifest(max=8, rows_independent=False), session, session.clock).taken) == (1,)


def test_a_fixed_batch_is_the_only_one_that_comes():
    session = Noting(batch=4)
    assert tuple(warm_up(manifest(max=4), session, session.clock).taken) == (4,)
    assert set(session.runs) == {(4, 3)}


def test_a_slow_model_is_warmed_in_its_small_batches_only():
    session = Noting(row_seconds=0.03)
    warmth = warm_up(manifest(max=32), session, session.clock)
    assert tuple(warmth.taken) == (1, 2)  # 2 runs of 2 rows take 0.12 s, 2 of 4 would take 0.24 s more
    assert warmth.seconds == pytest.approx(0.03)


def test_a_size_without_a_longest_is_tried_until_the_model_takes_it_and_says_nothing_of_the_time():
    session = Noting(refused={(1, 7): ModelFailed("too short")})
    warmth = warm_up(manifest([{"name": "x", "codec": "tensor", "dtype": "float32", "shape": [None]}], max=2), session, session.clock)
    assert session.runs == {(1, 7): 1, (1, 32): 3, (2, 32): 2}
    assert (warmth.seconds, tuple(warmth.taken)) == (float("inf"), (1, 2))


def test_text_is_warmed_at_its_longest():
    session = Noting()
    text = {"tokenizer": "t.json", "max_length": 5, "pad_id": 0, "lengths": "n"}
    inputs = [{"name": "x", "codec": "text", "dtype": "int64", "shape": [None], "text": text}]
    assert tuple(warm_up(manifest(inputs, max=2), session, session.clock).taken) == (1, 2)
    assert set(session.runs) == {(1, 5), (2, 5)}
    assert session.feeds[0]["n"].tolist() == [5]


def test_strings_are_warmed_empty():
    session = Noting()
    warm_up(manifest([{"name": "x", "codec": "tensor", "dtype": "string", "shape": [2]}], max=1), session, session.clock)
    assert session.feeds[0]["x"].tolist() == [["", ""]]


def test_a_model_that_takes_no_zeros_is_left_as_it_is():
    session = Noting(refused={(1, 3): ModelFailed("no zeros")})
    warmth = warm_up(manifest(max=2), session, session.clock)
    assert (warmth.seconds, tuple(warmth.taken)) == (float("inf"), ())


def test_a_large_batch_that_fails_ends_the_warming_and_refuses_nothing():
    session = Noting(refused={(4, 3): OutOfMemory("no memory")})
    assert tuple(warm_up(manifest(max=8), session, session.clock).taken) == (1, 2)


def test_one_row_beyond_the_memory_refuses_the_model():
    with pytest.raises(BadBundle, match="too much"):
        warm_up(manifest(), Noting(refused={(1, 3): OutOfMemory("no memory")}))
    huge = [{"name": "x", "codec": "tensor", "dtype": "float32", "shape": [2**29]}]
    with pytest.raises(BadBundle, match="2048 MiB a row"):
        warm_up(manifest(huge), Noting())

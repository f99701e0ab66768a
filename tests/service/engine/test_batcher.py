"""The batcher runs at once, batches what queued meanwhile, and lets nobody pay for a neighbour's failure."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from service.engine.batcher import Batcher, BatchReport
from service.errors import ModelFailed


class Doubling:
    """A model that notes its batches, may wait for a signal, and fails on NaN."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.batches: list[int] = []
        self.gate = gate

    def run(self, feeds):
        if self.gate:
            self.gate.wait(10)
        x = feeds["x"]
        self.batches.append(len(x))
        if np.isnan(x).any():
            raise ModelFailed("NaN")
        return [x * 2, x.sum(axis=1)]


def rows(*values: float) -> dict[str, np.ndarray]:
    return {"x": np.array([[value, value] for value in values], np.float32)}


def make(session, executor=None, max_rows=8, mix=True, reports=None):
    return Batcher(session, max_rows=max_rows, mix=mix, executor=executor, report=(reports if reports is not None else []).append)


async def test_one_turn_of_the_loop_shares_a_run():
    session, reports = Doubling(), []
    batcher = make(session, reports=reports)
    answers = await asyncio.gather(batcher.run(rows(1)), batcher.run(rows(2, 3)), batcher.run(rows(4)))
    assert session.batches == [4]
    assert [a[0][:, 0].tolist() for a in answers] == [[2], [4, 6], [8]]
    assert [a[1].tolist() for a in answers] == [[2], [4, 6], [8]]
    assert isinstance(reports[0], BatchReport)
    assert reports[0].rows == 4


async def test_what_arrives_during_a_run_is_the_next_batch():
    gate = threading.Event()
    session = Doubling(gate)
    with ThreadPoolExecutor(1) as executor:
        batcher = make(session, executor)
        first = batcher.run(rows(1))
        await asyncio.sleep(0.05)
        others = [batcher.run(rows(k)) for k in range(3)]
        await asyncio.sleep(0.05)
        gate.set()
        await asyncio.gather(first, *others)
    assert session.batches == [1, 3]


async def test_only_rows_of_one_shape_share_a_run_and_never_more_than_the_largest_batch():
    session = Doubling()
    batcher = make(session, max_rows=3)
    other = {"x": np.ones((1, 5), np.float32)}
    answers = await asyncio.gather(*(batcher.run(f) for f in (rows(1), other, rows(2, 3), rows(4))))
    assert session.batches == [3, 1, 1]
    assert [a[0].shape for a in answers] == [(1, 2), (1, 5), (2, 2), (1, 2)]


async def test_dependent_rows_are_never_mixed():
    session = Doubling()
    batcher = make(session, mix=False)
    await asyncio.gather(batcher.run(rows(1, 2)), batcher.run(rows(3)))
    assert session.batches == [2, 1]


async def test_a_bad_row_fails_its_own_request_only():
    batcher = make(Doubling())
    answers = await asyncio.gather(batcher.run(rows(1)), batcher.run(rows(np.nan)), batcher.run(rows(3)), return_exceptions=True)
    assert answers[0][0].tolist() == [[2, 2]]
    assert isinstance(answers[1], ModelFailed)
    assert answers[2][0].tolist() == [[6, 6]]


async def test_a_request_that_has_gone_is_not_computed():
    gate = threading.Event()
    session = Doubling(gate)
    with ThreadPoolExecutor(1) as executor:
        batcher = make(session, executor)
        first = batcher.run(rows(1))
        await asyncio.sleep(0.05)
        gone = batcher.run(rows(2))
        stays = batcher.run(rows(3))
        await asyncio.sleep(0.05)
        gone.cancel()
        gate.set()
        await asyncio.gather(first, stays)
    assert session.batches == [1, 1]
    assert batcher.waiting == 0


async def test_an_executor_that_was_shut_down_fails_the_request_and_does_not_hang():
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    batcher = make(Doubling(), executor)
    with pytest.raises(RuntimeError):
        await asyncio.wait_for(batcher.run(rows(1)), 5)


async def test_requests_that_are_being_read_join_the_run():
    session = Doubling()
    batcher = make(session)

    async def a_turn_later(value: float):
        await asyncio.sleep(0)
        return await batcher.run(rows(value))

    await asyncio.gather(batcher.run(rows(1)), a_turn_later(2), a_turn_later(3))
    assert session.batches == [3]


async def test_after_a_run_of_one_the_next_waits_for_nobody_and_what_came_meanwhile_shares_a_run():
    session = Doubling()
    batcher = make(session)
    await batcher.run(rows(1))

    async def a_turn_later(value: float):
        await asyncio.sleep(0)
        return await batcher.run(rows(value))

    await asyncio.gather(batcher.run(rows(1)), a_turn_later(2), a_turn_later(3))
    assert session.batches == [1, 1, 2]


async def test_a_full_batch_waits_for_nobody():
    session = Doubling()
    batcher = make(session, max_rows=2)
    await asyncio.gather(*(batcher.run(rows(k)) for k in range(4)))
    assert session.batches == [2, 2]

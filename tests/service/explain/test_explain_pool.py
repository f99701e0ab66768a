"""The explainer process for real: over its socket, killed, hung up on, out of time, out of room."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from service.errors import BadParameter, DeadlineExceeded, NotFound, Unavailable
from service.explain.cancel import Token
from service.explain.explainer import explain
from service.explain.keeper import Bounds
from service.explain.methods import resolve
from service.explain.pool import Pool
from service.manifest import Manifest, sha256_of
from service.telemetry import Metrics

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ENDLESS = {"tolerance": 1e-9, "max_steps": 1000}


@pytest.fixture(scope="module")
def run() -> Any:
    """One event loop for the module: the pool lives in it."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="module")
def pool(bundles: Path, run: Run) -> Any:
    pool = Pool(bundles, queue=4, memory_mib=1024)
    run(pool.start())
    yield pool
    run(pool.stop())


def asked(bundles: Path, name: str, **parameters: Any) -> Any:
    return resolve(Manifest.read(bundles / name / "1"), parameters)


def process() -> psutil.Process:
    (found,) = (p for p in psutil.Process().children() if "service.explain.process" in p.cmdline())
    return found


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while True:
            if condition():
                return
            await asyncio.sleep(0.05)


def test_answers_what_the_explainer_answers(pool: Pool, run: Run, bundles, subjects, images) -> None:
    request = asked(bundles, "cnn", target=3)
    over_the_wire = run(pool.explain("cnn", 1, {"image": images}, request))
    here = explain(subjects["cnn"], request, {"image": images}, Token(60), 1 << 26).explanations
    assert len(over_the_wire) == len(images)
    for theirs, mine in zip(over_the_wire, here, strict=True):
        np.testing.assert_allclose(theirs.attributions["image"], mine.attributions["image"], rtol=1e-4, atol=1e-6)
        assert theirs.fields["target"] == {"label": "3", "index": 3}
        assert theirs.fields.keys() == mine.fields.keys()


def test_several_inputs_and_texts_travel_too(pool: Pool, run: Run, bundles) -> None:
    feeds = {"latent": np.ones((2, 4), np.float32), "class": np.asarray([0, 2])}
    for found in run(pool.explain("generator", 1, feeds, asked(bundles, "generator"))):
        assert {name: array.shape for name, array in found.attributions.items()} == {"latent": (4,), "class": ()}
    feeds = {"tokens": np.asarray([[3, 4, 5]]), "lengths": np.asarray([3])}
    (found,) = run(pool.explain("text", 1, feeds, asked(bundles, "text")))
    assert found.attributions["tokens"].shape == (3,)


def test_errors_arrive_as_they_were_raised(pool: Pool, run: Run, bundles, images) -> None:
    with pytest.raises(BadParameter, match="out of range"):
        run(pool.explain("cnn", 1, {"image": images[:1]}, asked(bundles, "cnn", target=99)))
    with pytest.raises(NotFound):
        run(pool.explain("nobody", 1, {"image": images[:1]}, asked(bundles, "cnn")))


def test_says_what_it_knows_of_a_twin(pool: Pool, run: Run, subjects) -> None:
    assert run(pool.status("cnn", 1)) == subjects["cnn"].status


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="Linux")
def test_stands_in_nobodys_way(pool: Pool, run: Run) -> None:
    run(pool.status("cnn", 1))
    found = process()
    if sys.platform == "linux":
        assert {os.sched_getscheduler(thread.id) for thread in found.threads()} == {os.SCHED_IDLE}, "all threads, torch's among them"
    assert Path(f"/proc/{found.pid}/oom_score_adj").read_text().strip() == "1000"
    assert "Max data size             unlimited" not in Path(f"/proc/{found.pid}/limits").read_text()
    os.kill(found.pid, signal.SIGINT)  # Ctrl-C reaches the whole group: the explainer leaves it to the server
    run(pool.status("cnn", 1))
    assert process().pid == found.pid


def test_half_an_answer_at_the_deadline_and_none_before_it(pool: Pool, run: Run, bundles, images) -> None:
    (found,) = run(pool.explain("cnn", 1, {"image": images[:1]}, asked(bundles, "cnn", **ENDLESS, timeout=1.5)))
    assert not found.fields["converged"]
    with pytest.raises(DeadlineExceeded):
        run(pool.explain("cnn", 1, {"image": images[:1]}, asked(bundles, "cnn", timeout=1e-4)))


def test_a_client_that_hangs_up_frees_the_explainer(pool: Pool, run: Run, bundles) -> None:
    """40 texts of 400 tokens at 1,000 steps take many seconds; whoever asks next doesn't wait for them."""
    feeds = {"tokens": np.full((40, 400), 7), "lengths": np.full(40, 400)}

    async def hang_up() -> float:
        task = asyncio.create_task(pool.explain("text", 1, feeds, asked(bundles, "text", steps=1000)))
        await asyncio.sleep(1)
        assert not task.done()
        task.cancel()
        started = time.monotonic()
        await pool.explain("product", 1, {"x": np.ones((1, 3), np.float32)}, asked(bundles, "product"))
        return time.monotonic() - started

    assert run(hang_up()) < 20  # not all of its steps; the process is of the idle class, and others may use the machine
    assert pool.pending == 0


def test_a_full_queue_says_when_to_come_back(pool: Pool, run: Run, bundles) -> None:
    feeds = {"tokens": np.full((40, 400), 7), "lengths": np.full(40, 400)}

    async def crowd() -> list[Any]:
        tasks = [asyncio.create_task(pool.explain("text", 1, feeds, asked(bundles, "text", steps=1000))) for _ in range(5)]
        await asyncio.sleep(0.3)
        done = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        return await asyncio.gather(*done, return_exceptions=True)

    (refused,) = run(crowd())
    assert isinstance(refused, Unavailable)
    assert refused.retry_after


def test_a_killed_explainer_is_replaced_and_the_request_answered(pool: Pool, run: Run, bundles) -> None:
    feeds = {"tokens": np.full((40, 200), 7), "lengths": np.full(40, 200)}

    async def kill_while_it_works() -> Any:
        task = asyncio.create_task(pool.explain("text", 1, feeds, asked(bundles, "text", steps=300)))
        await asyncio.sleep(0.3)
        first = process()
        first.kill()
        return first.pid, await task

    pid, found = run(kill_while_it_works())
    assert [one.attributions["tokens"].shape for one in found] == [(200,)] * 40
    assert process().pid != pid


def test_nothing_is_left_when_it_stops(bundles: Path, run: Run) -> None:
    before = {p.pid for p in psutil.Process().children()}

    async def begin_and_end() -> None:
        second = Pool(bundles)
        await second.start()
        await asyncio.sleep(0.2)
        await second.stop()
        with pytest.raises(Unavailable):
            await second.status("cnn", 1)

    run(begin_and_end())
    assert {p.pid for p in psutil.Process().children()} == before


def test_a_file_that_is_not_the_served_one_is_not_explained(pool: Pool, run: Run, bundles, images) -> None:
    request = asked(bundles, "cnn")
    served = sha256_of(bundles / "cnn" / "1" / "model.onnx")
    (found,) = run(pool.explain("cnn", 1, {"image": images[:1]}, request, served))
    assert found.attributions is not None
    with pytest.raises(Unavailable, match="isn't the one that is served"):
        run(pool.explain("cnn", 1, {"image": images[:1]}, request, "0" * 64))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="Linux")
def test_an_explainer_that_hangs_is_replaced_and_the_request_answered(bundles: Path, run: Run) -> None:
    before = {p.pid for p in psutil.Process().children()}

    async def hang() -> Any:
        metrics = Metrics()
        second = Pool(bundles, memory_mib=1024, bounds=Bounds(2**30, stall=2, look=0.2), metrics=metrics)
        await second.start()
        try:
            await second.status("product", 1)
            (stopped,) = (p for p in psutil.Process().children() if p.pid not in before)
            stopped.suspend()
            (found,) = await second.explain("product", 1, {"x": np.ones((1, 3), np.float32)}, asked(bundles, "product"))
            return found, metrics.exposition("")[0].decode()
        finally:
            await second.stop()

    found, metrics = run(hang())
    assert found.attributions["x"].shape == (3,)
    assert 'whyserve_explainer_replaced_total{reason="hung"} 1.0' in metrics


def test_an_explainer_that_outgrows_its_budget_is_replaced(bundles: Path, run: Run) -> None:
    """A budget of nothing: loading a model outgrows it."""

    async def outgrow() -> str:
        metrics = Metrics()
        second = Pool(bundles, memory_mib=1024, bounds=Bounds(0, look=0.2), metrics=metrics)
        await second.start()
        try:
            await second.status("cnn", 1)
            await until(lambda: 'whyserve_explainer_replaced_total{reason="memory"}' in metrics.exposition("")[0].decode())
            await second.status("product", 1)  # by the next one
            return metrics.exposition("")[0].decode()
        finally:
            await second.stop()

    assert "whyserve_explain_wait_seconds_count" in run(outgrow())


def test_a_request_that_ends_two_explainers_is_not_tried_a_third_time(bundles: Path, run: Run) -> None:
    feeds = {"tokens": np.full((40, 400), 7), "lengths": np.full(40, 400)}

    async def kill_twice() -> None:
        before = {p.pid for p in psutil.Process().children()}
        second = Pool(bundles, memory_mib=1024)
        await second.start()
        try:
            await second.status("text", 1)
            task = asyncio.create_task(second.explain("text", 1, feeds, asked(bundles, "text", steps=1000)))
            for _ in range(2):
                await until(lambda: second.running > 0)
                (worker,) = (p for p in psutil.Process().children() if p.pid not in before)
                worker.kill()
                before.add(worker.pid)
                await asyncio.sleep(0.3)
            with pytest.raises(Unavailable, match="two explainers"):
                await task
            with pytest.raises(Unavailable, match="this very request"):
                await second.explain("text", 1, feeds, asked(bundles, "text", steps=1000))
            await second.status("text", 1)  # others are answered
        finally:
            await second.stop()

    run(kill_twice())

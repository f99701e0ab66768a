"""Passes that several threads share: who computes, for whom, and what happens to the others when one fails or leaves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest

from service.explain.cancel import Cancelled, Token
from service.explain.explainer import explain
from service.explain.lane import Lane
from service.explain.methods import resolve
from service.explain.passes import Passes


class Work:
    """Doubles numbers, and notes which it was handed together."""

    def __init__(self) -> None:
        self.together: list[list[int]] = []

    def __call__(self, blocks: Sequence[list[int]]) -> list[list[int]]:
        self.together.append([number for block in blocks for number in block])
        if any(13 in block for block in blocks):
            raise ValueError("thirteen")
        return [[2 * number for number in block] for block in blocks]


@contextmanager
def queued(passes: Passes, calls: Sequence[Callable[[], object]]) -> Iterator[list[Future]]:
    """The calls in threads of their own, all of them waiting: somebody else has the lane until the block is left."""
    with ThreadPoolExecutor(len(calls)) as threads, passes.lane.held(Token()):
        futures = []
        for call in calls:
            futures.append(threads.submit(call))
            until(lambda: sum(map(len, passes._waiting.values())) == len(futures))
        yield futures


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def asks(passes: Passes, work: Work, block: list[int], most: int = 8, key: str = "double") -> Callable[[], list[int]]:
    return lambda: passes.through(key, block, len(block), most, work, Token(30))


def test_what_waits_is_computed_together() -> None:
    passes, work = Passes(Lane()), Work()
    with queued(passes, [asks(passes, work, [i, 10 * i]) for i in (1, 2, 3)]) as futures:
        pass
    assert [future.result() for future in futures] == [[2, 20], [4, 40], [6, 60]]
    assert [sorted(together) for together in work.together] == [[1, 2, 3, 10, 20, 30]]
    assert passes._waiting == {}


def test_a_pass_holds_no_more_rows_than_it_may() -> None:
    passes, work = Passes(Lane()), Work()
    with queued(passes, [asks(passes, work, [i] * 3) for i in range(5)]) as futures:
        pass
    assert [future.result() for future in futures] == [[2 * i] * 3 for i in range(5)]
    assert all(len(together) <= 8 for together in work.together)
    assert len(work.together) == 3


def test_other_work_is_not_taken_along() -> None:
    passes, work = Passes(Lane()), Work()
    with queued(passes, [asks(passes, work, [1]), asks(passes, work, [2], key="another")]) as futures:
        pass
    assert [future.result() for future in futures] == [[2], [4]]
    assert sorted(map(len, work.together)) == [1, 1]


def test_nobody_fails_for_a_neighbour() -> None:
    passes, work = Passes(Lane()), Work()
    with queued(passes, [asks(passes, work, [number]) for number in (1, 13, 2)]) as futures:
        pass
    assert futures[0].result() == [2]
    assert futures[2].result() == [4]
    with pytest.raises(ValueError, match="thirteen"):
        futures[1].result()
    assert passes._waiting == {}


def test_who_no_longer_waits_is_not_computed_for() -> None:
    passes, work, token = Passes(Lane()), Work(), Token(30)
    with queued(passes, [asks(passes, work, [1]), lambda: passes.through("double", [2], 1, 8, work, token)]) as futures:
        token.cancel()
        with pytest.raises(Cancelled):
            futures[1].result(30)
    assert futures[0].result() == [2]
    assert work.together == [[1]]


def test_explanations_side_by_side_are_those_that_each_gets_alone(subjects, images, monkeypatch) -> None:
    """Different pictures and targets of one model; rows of all of them in common passes."""
    subject = subjects["cnn"]
    wanted = [resolve(subject.manifest, {"target": target}) for target in (3, 1, 4, 1)]
    alone = [explain(subject, request, {"image": images[i : i + 1]}, Token(60), 64 << 20) for i, request in enumerate(wanted)]
    together, through = [], Passes.through

    def counting(self, key, block, rows, most, run, token):
        def counted(blocks):
            together.append(len(blocks))
            return run(blocks)

        return through(self, key, block, rows, most, counted, token)

    monkeypatch.setattr(Passes, "through", counting)
    with queued(
        subject.passes,
        [partial(explain, subject, request, {"image": images[i : i + 1]}, Token(60), 64 << 20) for i, request in enumerate(wanted)],
    ) as futures:
        pass
    for one, future in zip(alone, futures, strict=True):
        (expected,), (found,) = one.explanations, future.result(60).explanations
        np.testing.assert_allclose(found.attributions["image"], expected.attributions["image"], rtol=1e-4, atol=1e-6)
        assert found.fields["target"] == expected.fields["target"]
        assert found.fields["completeness_error"] <= 0.01
    assert max(together) > 1

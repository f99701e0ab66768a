"""One computation for those who ask for the same, none for what is known; who leaves takes nothing from the others."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from service.errors import BadParameter, Overloaded, WhyserveError
from service.explain.answer import Explanation
from service.explanations.cache import Cache
from service.explanations.shared import Shared
from service.telemetry import Metrics

MIB = 2**20


def explanation(number: int = 0, **fields: Any) -> Explanation:
    return Explanation({"x": np.full(100, number, np.float32)}, {"timed_out": False, "seconds": 0.5} | fields)


class Computing:
    """Computes rows when it is told to; knows what it was asked for and what was cancelled."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.cancelled = 0
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, places: list[int]) -> list[Explanation]:
        self.asked.append(places)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error:
            raise self.error
        return [explanation(place) for place in places]


def shared(most: int = MIB) -> tuple[Shared, Metrics]:
    metrics = Metrics()
    return Shared(Cache(most, metrics), metrics), metrics


def value(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(f"whyserve_explanation_cache_{name}")


async def begun(*askers: Any) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(asker) for asker in askers]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_the_same_asked_at_once_is_computed_once_and_then_known():
    both, metrics = shared()
    computing = Computing()
    tasks = await begun(both.explain([b"a", b"b"], 60, computing), both.explain([b"b", b"a", b"b"], 60, computing))
    computing.go.set()
    first, second = await asyncio.gather(*tasks)
    assert computing.asked == [[0, 1]]
    assert [e.attributions["x"][0] for e in first] == [0, 1]
    assert [e.attributions["x"][0] for e in second] == [1, 0, 1]
    assert not any(e.fields["cached"] for e in first + second)
    (known,) = await both.explain([b"b"], 1, computing)
    assert known.fields["cached"]
    assert known.fields["seconds"] == 0.5
    assert len(computing.asked) == 1
    assert [value(metrics, name) for name in ("hits_total", "misses_total", "joined_total")] == [1, 2, 2]


async def test_only_what_is_missing_is_asked_for():
    both, _ = shared()
    computing = Computing()
    computing.go.set()
    await both.explain([b"a", b"b"], 60, computing)
    await both.explain([b"x", b"a", b"y", b"b"], 60, computing)
    assert computing.asked == [[0, 1], [0, 2]]


async def test_nobody_waits_for_what_others_want_or_is_cut_by_their_time():
    both, _ = shared()
    computing = Computing()
    tasks = await begun(*(both.explain(keys, patience, computing) for keys, patience in (([b"a", b"b"], 60), ([b"a"], 60), ([b"a"], 1))))
    computing.go.set()
    await asyncio.gather(*tasks)
    assert computing.asked == [[0, 1], [0], [0]]


async def test_it_goes_on_for_those_who_stay_and_ends_with_the_last():
    both, _ = shared()
    computing = Computing()
    first, second = await begun(both.explain([b"a"], 60, computing), both.explain([b"a"], 60, computing))
    first.cancel()
    await asyncio.wait([first])
    assert not computing.cancelled
    second.cancel()
    await asyncio.wait([second])
    (third,) = await begun(both.explain([b"a"], 60, computing))  # what is being cancelled is not joined
    assert computing.cancelled == 1
    computing.go.set()
    assert len(await third) == 1
    assert len(computing.asked) == 2


async def test_an_error_is_everybodys_and_is_not_kept():
    both, _ = shared()
    computing = Computing()
    computing.error = BadParameter("no such label")
    tasks = await begun(both.explain([b"a"], 60, computing), both.explain([b"a"], 60, computing))
    computing.go.set()
    for task in tasks:
        with pytest.raises(BadParameter):
            await task
    computing.error = None
    await both.explain([b"a"], 60, computing)
    assert len(computing.asked) == 2


async def test_a_share_that_anothers_key_used_up_is_not_held_against_who_joined():
    class ShareUsedUp(WhyserveError):
        status = 429

    both, _ = shared()
    refused, granted = Computing(), Computing()
    refused.error = ShareUsedUp("too many")
    first, second = await begun(both.explain([b"a"], 60, refused), both.explain([b"a"], 60, granted))
    refused.go.set()
    granted.go.set()
    with pytest.raises(ShareUsedUp):
        await first
    assert len(await second) == 1


async def test_what_was_refused_does_not_count_as_computed():
    both, metrics = shared()
    computing = Computing()
    computing.go.set()
    for error in (Overloaded("no room"), Overloaded("no room"), None):
        computing.error = error
        (asked,) = await begun(both.explain([b"a", b"b"], 60, computing))
        await asyncio.wait([asked])
        assert asked.exception() is error
    assert value(metrics, "misses_total") == 2


def test_the_least_recently_used_go_and_the_bytes_are_bounded():
    metrics = Metrics()
    cache = Cache(4000, metrics)  # two entries of 400 bytes and what is around them
    for key in (b"a", b"b"):
        cache.put(key, explanation())
    cache.get(b"a")
    cache.put(b"c", explanation())
    assert [cache.get(key) is not None for key in (b"a", b"b", b"c")] == [True, False, True]
    assert value(metrics, "evicted_total") == 1
    assert 800 < (value(metrics, "bytes") or 0) <= 4000
    cache.put(b"d", Explanation({"x": np.zeros(2000, np.float32)}, {"timed_out": False}))
    assert cache.get(b"d") is None


@pytest.mark.parametrize(
    "cut",
    [explanation(timed_out=True), explanation(quality={"complete": False}), Explanation(None, {"timed_out": False})],
    ids=["time", "quality", "untrusted"],
)
def test_what_time_cut_short_is_not_kept(cut: Explanation):
    cache = Cache(MIB, Metrics())
    cache.put(b"a", cut)
    assert cache.get(b"a") is None


def test_nothing_is_kept_where_it_is_turned_off():
    cache = Cache(0, Metrics())
    cache.put(b"a", explanation())
    assert cache.get(b"a") is None


def test_an_array_that_is_kept_is_a_copy_that_nobody_can_change():
    cache = Cache(MIB, Metrics())
    whole = np.zeros((100, 100), np.float32)
    cache.put(b"a", Explanation({"x": whole[3]}, {"timed_out": False}))
    kept = cache.get(b"a")
    assert kept is not None
    assert kept.attributions is not None
    assert kept.attributions["x"].base is None
    assert not kept.attributions["x"].flags.writeable

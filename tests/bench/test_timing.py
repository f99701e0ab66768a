"""Works in turns, on a clock that the test turns."""

from __future__ import annotations

from collections import Counter

import pytest

from bench import timing


def test_each_work_has_each_neighbour_and_its_least_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, done = 0.0, []

    def work(name: str, takes: float):
        def run() -> str:
            nonlocal now
            now += takes + (1.0 if len(done) < 3 else 0.0)  # the first round is slow
            done.append(name)
            return f"{name}{len(done)}"

        return run

    monkeypatch.setattr(timing, "perf_counter", lambda: now)
    found = timing.in_turns([work("a", 1.0), work("b", 2.0), work("c", 3.0)], 20)
    assert [timed.seconds for timed in found] == pytest.approx([1.0, 2.0, 3.0])
    assert all(timed.result.startswith(name) for timed, name in zip(found, "abc", strict=True))
    rounds = [done[i : i + 3] for i in range(0, 60, 3)]
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert {each[0] for each in rounds} == {"a", "b", "c"}  # nobody always comes behind the same one
    assert Counter(done) == {"a": 20, "b": 20, "c": 20}

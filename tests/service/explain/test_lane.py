"""The lane as a baton: one thread at a time computes, who goes next, and what becomes of it when somebody leaves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from service.explain.cancel import Cancelled, TimeUp, Token
from service.explain.lane import Lane, Place


@pytest.fixture
def lane() -> Lane:
    return Lane()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


class Queue:
    """Calls in threads of their own that queue for a lane one after the other."""

    def __init__(self, lane: Lane, threads: ThreadPoolExecutor) -> None:
        self._lane = lane
        self._threads = threads

    def add(self, call: Callable[[], object]) -> Future:
        before = self.length
        future = self._threads.submit(call)
        end = time.monotonic() + 30
        while self.length == before:
            assert time.monotonic() < end
            time.sleep(0.001)
        return future

    @property
    def length(self) -> int:
        return len(self._lane._going_on) + len(self._lane._computing)


@pytest.fixture
def queue(lane, threads) -> Queue:
    return Queue(lane, threads)


def goes_on(lane: Lane, order: list[str], name: str, token: Token | None = None) -> Callable[[], None]:
    def call() -> None:
        with lane.held(token or Token(30)):
            order.append(name)

    return call


def computes(lane: Lane, order: list[str], name: str, place: Place | None = None) -> Callable[[], None]:
    def call() -> None:
        with lane.turn(Token(30), place or Place(long=True)):
            order.append(name)

    return call


def test_who_has_the_lane_may_take_it_again_and_nobody_else(lane, queue) -> None:
    order: list[str] = []
    with lane.held(Token()):
        other = queue.add(goes_on(lane, order, "other"))
        with lane.held(Token()):
            order.append("inner")
        order.append("outer")
    other.result(30)
    assert order == ["inner", "outer", "other"]


def test_who_goes_on_comes_before_who_computes_and_each_by_age(lane, queue) -> None:
    order: list[str] = []
    with lane.held(Token()):
        calls = [(computes, "pass 1"), (goes_on, "step 1"), (computes, "pass 2"), (goes_on, "step 2")]
        futures = [queue.add(make(lane, order, name)) for make, name in calls]
    for future in futures:
        future.result(30)
    assert order == ["step 1", "step 2", "pass 1", "pass 2"]


def test_a_turn_lets_the_others_go_on_first_and_gives_the_lane_back(lane, queue) -> None:
    order: list[str] = []
    with lane.held(Token()):
        first = queue.add(computes(lane, order, "other's pass"))
        second = queue.add(goes_on(lane, order, "other's step"))
        with lane.turn(Token(30), Place(long=True)):
            order.append("own pass")
            third = queue.add(goes_on(lane, order, "late"))
        order.append("own step")
    for future in (first, second, third):
        future.result(30)
    assert order == ["other's step", "other's pass", "own pass", "own step", "late"]


def test_what_is_undivided_is_not_interrupted(lane, queue) -> None:
    order: list[str] = []
    with lane.held(Token(), undivided=True):
        other = queue.add(goes_on(lane, order, "other"))
        with lane.turn(Token(30), Place(long=True)):
            order.append("own")
    other.result(30)
    assert order == ["own", "other"]


def test_who_computes_alone_waits_for_its_turn_and_then_is_not_interrupted(lane, queue) -> None:
    order: list[str] = []

    def alone() -> None:
        with lane.held(Token(30)), lane.alone(Token(30)):
            order.append("begins")
            with lane.turn(Token(30), Place(long=True)):
                order.append("ends")

    with lane.held(Token()):
        futures = [queue.add(alone), queue.add(computes(lane, order, "pass")), queue.add(goes_on(lane, order, "step"))]
    for future in futures:
        future.result(30)
    assert order == ["step", "pass", "begins", "ends"]


def test_whose_share_is_done_goes_on_at_once(lane, queue) -> None:
    order: list[str] = []
    place: list[Place] = []

    def shared() -> None:
        place.append(Place(long=True))
        computes(lane, order, "shared", place[0])()

    with lane.held(Token()):
        futures = [queue.add(computes(lane, order, "pass")), queue.add(shared)]
        lane.hurry(place[0])
        lane.hurry(place[0])  # it waits in one queue only
        lane.hurry(Place(long=True))  # and who has left in none
    for future in futures:
        future.result(30)
    assert order == ["shared", "pass"]


def test_waiting_ends_at_the_deadline(lane, threads) -> None:
    with lane.held(Token()), pytest.raises(TimeUp):
        threads.submit(goes_on(lane, [], "late", Token(0.05))).result(30)


@pytest.mark.parametrize("aside", [False, True], ids=["outside", "aside"])
def test_the_lane_is_not_lost_with_who_leaves(lane, queue, aside) -> None:
    """Whether it waited for the lane, or had it and stood aside for another's pass."""
    order: list[str] = []
    token = Token(30)

    def leaves() -> None:
        with lane.held(Token(30)), lane.turn(token, Place(long=True)):
            order.append("never")

    with lane.held(Token()):
        futures = [queue.add(leaves if aside else goes_on(lane, order, "never", token))]
        if aside:  # it is given the lane, finds a pass of ours in its way, and gives it back
            entered = queue.add(computes(lane, order, "pass"))
            with lane.turn(Token(30), Place(long=True)):
                pass
            futures.append(entered)
        token.cancel()
        with pytest.raises(Cancelled):
            futures[0].result(30)
        order.append("own")
    with lane.held(Token(30)):
        order.append("next")
    assert [name for name in order if name != "pass"] == ["own", "next"]


def test_one_at_a_time_under_many_hands(lane) -> None:
    """Steps and turns of eight threads, some of which leave while they wait: never two at once, and nobody waits for ever."""
    inside, seen, done = threading.Lock(), [], []

    def works(number: int) -> None:
        for i in range(200):
            token = Token(0.0005 if (number + i) % 7 == 0 else 30)
            try:
                with lane.held(token):
                    _alone(inside, seen)
                    with lane.turn(token, Place(long=True)):
                        _alone(inside, seen)
                    _alone(inside, seen)
            except TimeUp:
                continue
        done.append(number)

    with ThreadPoolExecutor(8) as threads:
        for future in [threads.submit(works, number) for number in range(8)]:
            future.result(60)
    assert sorted(done) == list(range(8))
    assert all(seen)
    assert not lane._going_on
    assert not lane._computing
    with lane.held(Token(1)):
        pass


def _alone(inside: threading.Lock, seen: list[bool]) -> None:
    free = inside.acquire(blocking=False)
    seen.append(free)
    if free:
        time.sleep(0)
        inside.release()

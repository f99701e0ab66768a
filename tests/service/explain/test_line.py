"""The line of explanations under a clock that tests turn: order, bounds, shares, when to come back."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from service.caller import ANYONE, Caller
from service.errors import Overloaded, ShareUsedUp
from service.explain.line import AGEING, Line, Ticket
from service.explain.work import Estimates, Meter

LATER = Caller(interactive=False)
ANN, BOB = Caller("ann"), Caller("bob")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def line(clock: Clock, count: int = 10, share: float = 0.5, servers: int = 1) -> Line:
    return Line(count, share, servers, clock)


def served(line: Line) -> list[Ticket]:
    order = []
    while (ticket := line.first()) is not None:
        line.start(ticket)
        line.leave(ticket, done=True)
        order.append(ticket)
    return order


def test_first_come_first_served_and_interactive_before_asynchronous(clock: Clock):
    queue = line(clock)
    a = queue.enter(LATER, 1, clock.now + 60)
    clock.now += 1
    b, c = (queue.enter(ANYONE, 1, clock.now + 60) for _ in range(2))
    assert (queue.waiting(interactive=True), queue.waiting(interactive=False)) == (2, 1)
    assert served(queue) == [b, c, a]


def test_asynchronous_ones_age(clock: Clock):
    queue = line(clock)
    old = queue.enter(LATER, 0.1, clock.now + 600)
    clock.now += AGEING + 1
    young = queue.enter(ANYONE, 0.1, clock.now + 60)
    assert served(queue) == [old, young]


def test_at_most_so_many(clock: Clock):
    queue = line(clock, count=2)
    first = queue.enter(ANYONE, 4, clock.now + 60)
    queue.enter(ANYONE, 4, clock.now + 60)
    with pytest.raises(Overloaded, match="WHYSERVE_EXPLAINER_QUEUE") as caught:
        queue.enter(ANYONE, 1, clock.now + 60)
    assert caught.value.reason == "queue_full"
    assert caught.value.retry_after == 4  # one of two tickets of 4 s each, at 1 s of work a second
    queue.leave(first, done=False)
    queue.enter(ANYONE, 1, clock.now + 60)


def test_whoever_has_no_chance_in_time_is_told_so_at_once(clock: Clock):
    queue = line(clock)
    queue.enter(ANYONE, 500, clock.now + 1)  # an empty line takes anything
    with pytest.raises(Overloaded, match="500 s are before") as caught:
        queue.enter(ANYONE, 1, clock.now + 450)
    assert caught.value.reason == "work_full"
    assert caught.value.retry_after == 50
    queue.enter(ANYONE, 1, clock.now + 501)


def test_what_stands_behind_does_not_count(clock: Clock):
    queue = line(clock)
    queue.enter(LATER, 500, clock.now + 600)
    queue.enter(ANYONE, 1, clock.now + 5)
    with pytest.raises(Overloaded):
        queue.enter(LATER, 1, clock.now + 5)


def test_when_to_come_back_follows_from_what_was_done(clock: Clock):
    """One that does 2 s of estimated work a second for ten minutes, then one that does 0.5."""
    for rate in (2.0, 0.5):
        queue = line(clock)
        for _ in range(600):
            ticket = queue.enter(ANYONE, rate, clock.now + 60)
            queue.start(ticket)
            clock.now += 1
            queue.leave(ticket, done=True)
        clock.now += 3600  # idle time says nothing about the rate
        for _ in range(600):
            ticket = queue.enter(ANYONE, rate, clock.now + 60)
            queue.start(ticket)
            clock.now += 1
            queue.leave(ticket, done=True)
        queue.enter(ANYONE, 100, clock.now + 600)
        with pytest.raises(Overloaded) as caught:
            queue.enter(ANYONE, 1, clock.now + 10)
        assert math.isclose(caught.value.retry_after, 100 / rate - 10, rel_tol=0.1)


def test_a_key_holds_its_share_of_the_places(clock: Clock):
    queue = line(clock, count=4)
    for _ in range(2):
        queue.enter(ANN, 0.1, clock.now + 60)
    with pytest.raises(ShareUsedUp, match="WHYSERVE_KEY_SHARE") as caught:
        queue.enter(ANN, 0.1, clock.now + 60)
    assert caught.value.retry_after == 1
    for _ in range(2):
        queue.enter(BOB, 0.1, clock.now + 60)


def test_a_key_holds_its_share_of_the_work(clock: Clock):
    queue = line(clock, count=100)
    running = queue.enter(ANN, 40, clock.now + 60)
    queue.start(running)
    with pytest.raises(ShareUsedUp) as caught:
        queue.enter(ANN, 0.1, clock.now + 60)
    assert caught.value.retry_after == 10  # 40 s held, half of 60 allowed
    queue.enter(BOB, 0.1, clock.now + 60)


def test_what_stands_behind_it_is_not_held_against_a_keys_share(clock: Clock):
    """Else whoever asks for much asynchronously could ask for nothing while somebody waits."""
    queue = line(clock, count=100)
    queue.enter(replace(ANN, interactive=False), 40, clock.now + 600)
    queue.enter(ANN, 0.1, clock.now + 60)


def test_asynchronous_ones_leave_half_of_the_places(clock: Clock):
    queue = line(clock, count=4)
    for _ in range(2):
        queue.enter(LATER, 0.1, clock.now + 600)
    with pytest.raises(Overloaded, match=r"^2 explanations") as caught:
        queue.enter(LATER, 0.1, clock.now + 600)
    assert caught.value.reason == "queue_full"
    for _ in range(2):
        queue.enter(ANYONE, 0.1, clock.now + 60)
    with pytest.raises(Overloaded, match=r"^4 explanations"):
        queue.enter(ANYONE, 0.1, clock.now + 60)


def test_of_them_a_key_holds_its_share(clock: Clock):
    queue = line(clock, count=8)
    ann, bob = (replace(caller, interactive=False) for caller in (ANN, BOB))
    for _ in range(2):
        queue.enter(ann, 0.1, clock.now + 600)
    with pytest.raises(ShareUsedUp):
        queue.enter(ann, 0.1, clock.now + 600)
    for _ in range(2):
        queue.enter(bob, 0.1, clock.now + 600)


def test_asynchronous_ones_enter_when_they_need_not_age_past_those_who_wait(clock: Clock):
    queue = line(clock)
    queue.start(queue.enter(LATER, 400, clock.now + 600))  # what runs keeps nobody from an idle process
    queue.enter(LATER, AGEING + 5, clock.now + 600)
    with pytest.raises(Overloaded) as caught:
        queue.enter(LATER, 1, clock.now + 600)
    assert caught.value.reason == "work_full"
    assert caught.value.retry_after == 5
    queue.enter(ANYONE, 1, clock.now + 600)


def test_without_keys_there_are_no_shares(clock: Clock):
    queue = line(clock, count=4)
    for _ in range(4):
        queue.enter(ANYONE, 0.1, clock.now + 60)


def test_what_was_lost_stands_where_it_stood(clock: Clock):
    queue = line(clock)
    a, b = (queue.enter(ANYONE, 1, clock.now + 60) for _ in range(2))
    clock.now += 2
    assert queue.start(a) == 2
    queue.back(a)
    assert served(queue) == [a, b]
    assert len(queue) == 0
    assert queue.work == 0


def test_jobs_side_by_side_share_the_time():
    meter = Meter(0.0)
    a = meter.begin(0.0)
    b = meter.begin(1.0)
    assert meter.end(a, 3.0) == 1 + 2 / 2
    assert meter.end(b, 4.0) == 2 / 2 + 1
    c = meter.begin(100.0)
    assert meter.end(c, 101.0) == 1


def test_estimates_follow_what_was_measured():
    from service.explain.message import Message

    def message(rows: int, **parameters: object) -> Message:
        return Message("explain", "m", 1, 0.0, {"inputs": [{"shape": [rows, 3]}], "parameters": parameters})

    estimates = Estimates()
    for _ in range(20):
        estimates.learn(message(4, method="a"), 8.0)
    assert math.isclose(estimates.of(message(2, method="a")), 4.0)
    assert estimates.of(message(1, method="b")) < 1
    assert estimates.of(message(1, method="a", steps=500)) < 1  # nobody has asked for so many yet


def test_parts_of_one_request_do_not_stand_in_each_others_way(clock: Clock):
    """What is too much for its own time ends at its deadline (504), not with the advice to come back later (503).

    Which messages are one request's is this server's to say: an `X-Request-Id` that a client sends with all it asks joins nothing.
    """
    queue = line(clock)
    own, stranger = Caller(request="same", errand="1"), Caller(request="same", errand="2")
    queue.enter(own, 500, clock.now + 1)
    queue.enter(own, 500, clock.now + 1)
    with pytest.raises(Overloaded):
        queue.enter(stranger, 1, clock.now + 1)


@pytest.mark.parametrize("caller", [ANYONE, ANN])
def test_time_that_is_over_on_the_way_is_no_want_of_room(clock: Clock, caller: Caller):
    queue = line(clock)
    assert queue.enter(caller, 1, clock.now - 1e-6) is queue.first()

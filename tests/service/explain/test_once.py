"""A value kept, and no lock between instances."""

from __future__ import annotations

import threading

from service.explain.once import once


class Slow:
    def __init__(self, inside: threading.Event, go_on: threading.Event) -> None:
        self.inside, self.go_on, self.times = inside, go_on, 0

    @once
    def value(self) -> int:
        """A number."""
        self.times += 1
        self.inside.set()
        assert self.go_on.wait(30)
        return 7


def test_it_is_computed_once() -> None:
    done = threading.Event()
    done.set()
    slow = Slow(threading.Event(), done)
    assert [slow.value, slow.value, slow.times] == [7, 7, 1]
    slow.__dict__.pop("value")
    assert [slow.value, slow.times] == [7, 2]
    assert Slow.value.__doc__ == "A number."


def test_one_instance_does_not_wait_for_another() -> None:
    """functools.cached_property of Python 3.11 fails this: the second waits for the first."""
    inside, first, second = threading.Event(), threading.Event(), threading.Event()
    waiting = threading.Thread(target=lambda: Slow(inside, first).value)
    waiting.start()
    assert inside.wait(30)
    second.set()
    other = threading.Thread(target=lambda: Slow(threading.Event(), second).value, daemon=True)
    other.start()
    other.join(10)
    assert not other.is_alive()
    first.set()
    waiting.join(30)

"""Tokens: whether somebody still waits, and for how long no step was taken."""

from __future__ import annotations

import time

import pytest

from service.explain.cancel import Cancelled, TimeUp, Token


def test_cancelled_or_due():
    token = Token()
    token.check()
    token.cancel()
    with pytest.raises(Cancelled):
        token.check()
    with pytest.raises(TimeUp):
        Token(0).check()


def test_a_part_is_due_earlier_and_cancelled_with_the_whole():
    token = Token(60)
    assert token.within(0).remaining <= 0 < token.remaining
    part = token.within(120)
    assert part.remaining == pytest.approx(token.remaining, abs=1)
    token.cancel()
    with pytest.raises(Cancelled):
        part.check()


def test_what_is_done_to_its_end_is_neither():
    token = Token(0)
    part = token.to_its_end()
    token.cancel()
    part.check()
    with pytest.raises(Cancelled):
        token.check()


@pytest.mark.parametrize("part", [Token.to_its_end, lambda token: token.within(60), lambda token: token])
def test_a_step_of_the_part_is_one_of_the_whole(part):
    token = Token()
    time.sleep(0.5)
    before = token.still
    part(token).check()
    assert token.still < before

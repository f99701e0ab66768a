"""Loading a model takes steps, so that a large one's isn't taken for a process that hangs, and comes to its end."""

from __future__ import annotations

import time
from pathlib import Path

from service.explain.cancel import Token
from service.explain.loading import load
from service.explain.shelf import Shelf


class Counting(Token):
    """Notes when steps are taken."""

    def __init__(self) -> None:
        super().__init__()
        self.at = [time.perf_counter()]

    def check(self) -> None:
        self.at.append(time.perf_counter())
        super().check()


def test_loading_takes_steps(bundles: Path) -> None:
    shelf = Shelf(bundles, None, load, most=1)
    token = Counting()
    shelf.get("cnn", 1, None, token)
    parts = {"hash", "read", "build", "session", "fold", *range(2 + 3)}  # trials at two sizes, and a size of passes three times
    assert len(token.at) > len(parts)
    found = len(token.at)
    shelf.get("cnn", 1, None, token)
    assert len(token.at) == found, "it is there"


def test_who_has_gone_does_not_end_what_others_may_wait_for(bundles: Path) -> None:
    token = Token(0)
    token.cancel()
    assert Shelf(bundles, None, load, most=1).get("product", 1, None, token.to_its_end()).status.usable

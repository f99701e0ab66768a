"""What is loaded: versions by number, the default one, and readiness."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from service.errors import NotFound, Unavailable
from service.repository.bundle import Location
from service.repository.loaded import LoadedModel
from service.repository.registry import Entry, Registry, State

MODEL = cast(LoadedModel, object())


def registry(settled: bool = True, **models: dict[int, State]) -> Registry:
    made = Registry(settled=settled)
    for name, versions in models.items():
        for version, state in versions.items():
            location = Location(name, version, Path())
            made.put(Entry(location, state, "" if state == "READY" else "broken", MODEL if state == "READY" else None))
    return made


def test_the_default_is_the_highest_version_that_is_ready():
    found = registry(m={2: "READY", 10: "READY", 11: "UNAVAILABLE"})
    assert found.entry("m").location.version == 10
    assert found.entry("m", "2").location.version == 2
    assert registry(m={1: "UNAVAILABLE", 2: "LOADING"}).entry("m").location.version == 2


@pytest.mark.parametrize("version", ["3", "", "x", "-2", "02", "2.0", "²", "٢", "9" * 5000])
def test_a_version_that_is_none(version: str):
    with pytest.raises(NotFound, match="there are: 2, 10"):
        registry(m={2: "READY", 10: "READY"}).entry("m", version)


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(NotFound, match="there are: a, b"):
        registry(b={1: "READY"}, a={1: "READY"}).entry("c")
    with pytest.raises(NotFound, match="none"):
        registry().entry("c")


def test_a_model_that_is_not_ready_says_why_and_when_to_ask_again():
    with pytest.raises(Unavailable, match="broken") as caught:
        registry(m={1: "UNAVAILABLE"}).model("m")
    assert caught.value.retry_after
    assert registry(m={1: "READY"}).model("m") is MODEL


@pytest.mark.parametrize(
    ("states", "settled", "ready", "strictly"),
    [
        (["READY"], True, True, True),
        (["READY"], False, False, False),
        (["READY", "UNAVAILABLE"], True, True, False),
        (["UNAVAILABLE"], True, False, False),
        (["READY", "LOADING"], True, True, True),
        ([], True, False, False),
    ],
)
def test_readiness(states: list[Any], settled: bool, ready: bool, strictly: bool):
    found = registry(settled, m=dict(enumerate(states, 1)))
    assert found.ready(strict=False) is ready
    assert found.ready(strict=True) is strictly

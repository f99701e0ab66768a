"""Instances as JSON carries them."""

from __future__ import annotations

import base64

import pytest

from service.codecs.sent import is_encoded, kind_of, sent_instance, sent_value
from service.errors import BadInput
from service.manifest import Input

ONE = (Input(name="x", codec="tensor", dtype="float32", shape=(2,)),)
TWO = (*ONE, Input(name="y", codec="tensor", dtype="float32", shape=(1,)))
ENCODED = base64.b64encode(b"\x89PNG").decode()


def test_a_value_fills_the_only_input_with_or_without_its_name() -> None:
    assert sent_instance([1, 2], ONE) == sent_instance({"x": [1, 2]}, ONE) == {"x": [1, 2]}


@pytest.mark.parametrize("value", [{"b64": ENCODED}, {"data": ENCODED}, {"data": f"data:image/png;base64,{ENCODED}"}])
def test_encoded_values_become_bytes(value: dict[str, str]) -> None:
    assert is_encoded(value)
    assert sent_value(value) == b"\x89PNG"
    assert sent_instance({"x": value, "y": [1]}, TWO) == {"x": b"\x89PNG", "y": [1]}


@pytest.mark.parametrize("value", [{"b64": 1}, {"b64": "", "x": 1}, [1], "b64"])
def test_what_only_looks_encoded_is_not(value: object) -> None:
    assert not is_encoded(value)


def test_several_inputs_need_their_names() -> None:
    with pytest.raises(BadInput, match=r"object with the inputs \['x', 'y'\], got a list"):
        sent_instance([1], TWO)
    with pytest.raises(BadInput, match="got an object with 'z'"):
        sent_instance({"x": [1], "z": 2}, TWO)


def test_base64_that_is_none_is_said() -> None:
    with pytest.raises(BadInput, match="base64"):
        sent_value({"b64": "not base64!"})


def test_kinds_are_named_in_words() -> None:
    assert [kind_of(v) for v in ({}, [], [1], "a", True, 1.5, None)] == [
        "an object", "an empty list", "a list", "a string", "a boolean", "a number", "null",
    ]  # fmt: skip

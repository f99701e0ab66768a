"""JSON values to input tensors: exact in shape, dtype and range, and the answer to each misfit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from service.codecs.numbers import to_json
from service.codecs.tensor import check_tensor, decode_tensor
from service.errors import BadInput, UnknownChoice
from service.manifest import Input


def declared(dtype="float32", shape=(2, 3), **changes):
    return Input(name="x", codec="tensor", dtype=dtype, shape=shape, **changes)


@pytest.mark.parametrize(
    ("value", "dtype", "shape"),
    [
        ([[1, 2, 3], [4, 5, 6]], "float32", (2, 3)),
        ([[1, 2.5, 3], [4, 5, 6]], "float64", (2, 3)),
        ([[1, 2, 3], [4, 5, 6]], "uint8", (2, 3)),
        ([[1.0, 2.0]], "int64", (1, None)),
        ([[1e-9, 0.1]], "float16", (None, 2)),
        ([True, False], "bool", (2,)),
        ([0, 1], "bool", (2,)),
        (3, "int64", ()),
        (2.5, "float32", ()),
        ([0, 2**64 - 1], "uint64", (2,)),
        ([-(2**63), 2**63 - 1], "int64", (2,)),
    ],
)
def test_values_arrive_in_the_declared_dtype(value, dtype, shape):
    tensor = decode_tensor(value, declared(dtype, shape))
    assert tensor.dtype == dtype
    np.testing.assert_array_equal(tensor, np.array(value, dtype))


def test_strings():
    tensor = decode_tensor(["a", "é"], declared("string", (2,)))
    assert tensor.tolist() == ["a", "é"]
    with pytest.raises(BadInput, match="expected strings"):
        decode_tensor(["a", 1], declared("string", (2,)))


def test_labels_stand_for_their_index():
    digits = declared("int64", (), labels=tuple("0123456789"))
    assert decode_tensor("7", digits) == 7
    assert decode_tensor(7, digits) == 7
    assert decode_tensor(["cat", "dog"], declared("int64", (2,), labels=("dog", "cat"))).tolist() == [1, 0]
    with pytest.raises(UnknownChoice, match=r"unknown label of input 'x' 'seven'; there are: 0, 1, 2"):
        decode_tensor("seven", digits)
    for index in (10, -1):
        with pytest.raises(UnknownChoice, match="0 to 9"):
            decode_tensor(index, digits)


@pytest.mark.parametrize(
    ("value", "changes", "message"),
    [
        ([[1, 2, 3], [4, 5]], {}, "input 'x': the lists are ragged"),
        ([[1, 2], [3, 4]], {}, r"got shape \[2, 2\], expected \[2, 3\]"),
        ([1, 2, 3], {}, r"got shape \[3\], expected \[2, 3\]"),
        ([[1, 2]], {"shape": (None, 3)}, r"got shape \[1, 2\], expected \[any, 3\]"),
        ([], {"shape": (None,)}, "holds no value"),
        (3, {}, r"got shape \[\], expected \[2, 3\]"),
        ([[1, 2, None], [4, 5, 6]], {}, "got int and null, expected numbers"),
        (None, {"shape": ()}, "got null, expected numbers"),
        ([[1, 2, "3"], [4, 5, 6]], {}, "got strings, expected numbers"),
        ("text", {"shape": ()}, "got strings"),
        ({"a": 1}, {"shape": ()}, "got dict"),
        ([[1, 2, {}], [4, 5, 6]], {}, "dict"),
        ([[1, 2, math.nan], [4, 5, 6]], {}, r"got nan at \[0, 2\], expected finite"),
        ([[1, 2, math.inf], [4, 5, 6]], {}, "got inf"),
        ([[1, 2, 1e39], [4, 5, 6]], {}, "beyond the range of float32"),
        ([[1, 2, 10**400], [4, 5, 6]], {}, "expected numbers"),
        ([[True, True, True], [False, True, True]], {}, "got booleans"),
        ([1, 1.5], {"dtype": "int64", "shape": (2,)}, "fraction"),
        ([1, math.nan], {"dtype": "int64", "shape": (2,)}, "no finite number"),
        ([0, 256], {"dtype": "uint8", "shape": (2,)}, "got numbers from 0 to 256, expected 0 to 255"),
        ([-1, 0], {"dtype": "uint64", "shape": (2,)}, "expected 0 to"),
        ([2**63, 0], {"dtype": "int64", "shape": (2,)}, "expected -9223372036854775808 to 9223372036854775807"),
        ([9.3e18, 0], {"dtype": "int64", "shape": (2,)}, "expected -9223372036854775808"),
        ([True], {"dtype": "int8", "shape": (1,)}, "got booleans"),
        ([2], {"dtype": "bool", "shape": (1,)}, "expected true or false"),
    ],
)
def test_misfits_are_told(value, changes, message):
    with pytest.raises(BadInput, match=message):
        decode_tensor(value, declared(**changes))


def test_missing_values_where_allowed():
    tensor = decode_tensor([1, None, 3.5], declared(shape=(3,), allow_missing=True))
    np.testing.assert_array_equal(tensor, np.array([1, np.nan, 3.5], np.float32))
    with pytest.raises(BadInput, match="got str, expected numbers or null"):
        decode_tensor([None, "b"], declared(shape=(2,), allow_missing=True))


def test_arrays_from_the_wire_get_the_same_checks_without_a_copy():
    array = np.zeros((2, 3), np.float32)
    assert check_tensor(array, declared()) is array
    assert check_tensor(array.astype(np.float64), declared()).dtype == np.float32
    with pytest.raises(BadInput, match="got nan"):
        check_tensor(np.full((2, 3), np.nan, np.float32), declared())
    with pytest.raises(BadInput, match=r"got shape \[3, 2\]"):
        check_tensor(array.T, declared())
    check_tensor(np.full((2, 3), np.nan, np.float32), declared(allow_missing=True))


def test_json_keeps_what_is_not_finite():
    assert to_json(np.array([[1.5, np.nan], [np.inf, -np.inf]], np.float32)) == [[1.5, "NaN"], ["Infinity", "-Infinity"]]
    assert to_json(np.float32(2.0)) == 2.0
    assert to_json(np.array(np.nan)) == "NaN"
    assert to_json(np.array([1, 2])) == [1, 2]

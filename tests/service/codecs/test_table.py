"""Rows by position and by name."""

from __future__ import annotations

import numpy as np
import pytest

from service.codecs.table import decode_row
from service.errors import BadInput, UnknownChoice
from service.manifest import Column, Input, TablePolicy

COLUMNS = (Column(name="alcohol", unit="% vol"), Column(name="colour", categories=("red", "white")), Column(name="sugar"))


def wine(**changes):
    return Input(name="row", codec="table", dtype="float32", shape=(3,), table=TablePolicy(columns=COLUMNS), **changes)


@pytest.mark.parametrize(
    "value",
    [[11.5, "white", 2], [11.5, 1, 2.0], {"sugar": 2, "alcohol": 11.5, "colour": "white"}, {"alcohol": 11.5, "colour": 1, "sugar": 2}],
)
def test_a_row_by_position_or_name(value):
    row = decode_row(value, wine())
    assert row.dtype == np.float32
    assert row.tolist() == [11.5, 1.0, 2.0]


def test_missing_values():
    row = decode_row([None, "red", float("nan")], wine(allow_missing=True))
    np.testing.assert_array_equal(row, [np.nan, 0, np.nan])


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ([1, 0], BadInput, "got 2 values, expected 3: alcohol, colour, sugar"),
        ({"alcohol": 1, "sugar": 2}, BadInput, r"the columns \['colour'\] are missing, expected"),
        ({"alcohol": 1, "colour": 0, "sugar": 2, "ph": 3}, UnknownChoice, "unknown column of input 'row' 'ph'; there are: alcohol"),
        ([1, "rose", 2], UnknownChoice, "unknown category of column 'colour' 'rose'; there are: red, white"),
        ([1, 2, 2], UnknownChoice, "0 to 1"),
        ([1, 0.5, 2], UnknownChoice, "0.5"),
        (["strong", 0, 2], BadInput, "column 'alcohol': got str, expected a number"),
        ([[1], 0, 2], BadInput, "column 'alcohol': got list"),
        ([True, 0, 2], BadInput, "column 'alcohol': got bool"),
        ([None, 0, 2], BadInput, "column 'alcohol': the value is missing"),
        ([float("nan"), 0, 2], BadInput, "column 'alcohol': the value is missing"),
        ([float("inf"), 0, 2], BadInput, "got inf"),
        ([1e300, 0, 2], BadInput, "beyond the range of float32"),
        ([10**400, 0, 2], BadInput, "out of range"),
        ("1,2,3", BadInput, "expected a list of 3 values or an object by column name, got str"),
        (7, BadInput, "got int"),
    ],
)
def test_misfits_name_the_column(value, error, message):
    with pytest.raises(error, match=message):
        decode_row(value, wine())

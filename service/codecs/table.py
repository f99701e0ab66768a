"""A table's row, by position or by column name, to an input tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from service.codecs.numbers import Array
from service.codecs.tensor import check_tensor
from service.errors import BadInput, UnknownChoice
from service.manifest import Column, Input


def decode_row(value: object, declared: Input) -> Array:
    """One row, (columns,) in the input's dtype, from a list in the manifest's order or an object by column name.

    A category is given by its name, or by its index. A missing value is null where `allow_missing` says so. Raises
    BadInput and UnknownChoice, naming the column.
    """
    assert declared.table is not None
    columns = declared.table.columns
    cells = _cells(value, columns, f"input {declared.name!r}")
    numbers = [_number(cell, column, declared.allow_missing) for cell, column in zip(cells, columns, strict=True)]
    return check_tensor(np.array(numbers, np.float64), declared)


def _cells(value: object, columns: tuple[Column, ...], what: str) -> list[Any]:
    names = [column.name for column in columns]
    if isinstance(value, Mapping):
        missing = [name for name in names if name not in value]
        if missing:
            raise BadInput(f"{what}: the columns {missing} are missing, expected {names}")
        unknown = [name for name in value if name not in names]
        if unknown:
            raise UnknownChoice(f"column of {what}", unknown[0], names)
        return [value[name] for name in names]
    if not isinstance(value, list):
        raise BadInput(f"{what}: expected a list of {len(names)} values or an object by column name, got {type(value).__name__}")
    if len(value) != len(names):
        raise BadInput(f"{what}: got {len(value)} values, expected {len(names)}: {', '.join(names)}")
    return value


def _number(cell: object, column: Column, allow_missing: bool) -> float:
    if isinstance(cell, str) and column.categories:
        if cell not in column.categories:
            raise UnknownChoice(f"category of column {column.name!r}", cell, column.categories)
        return column.categories.index(cell)
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        if not allow_missing:
            raise BadInput(f"column {column.name!r}: the value is missing; this model takes complete rows only")
        return math.nan
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        raise BadInput(
            f"column {column.name!r}: got {type(cell).__name__}, expected a number{' or a category' if column.categories else ''}"
        )
    if column.categories and cell not in range(len(column.categories)):
        raise UnknownChoice(f"category index of column {column.name!r}", cell, [f"0 to {len(column.categories) - 1}", *column.categories])
    try:
        return float(cell)
    except OverflowError:
        raise BadInput(f"column {column.name!r}: the number is out of range") from None

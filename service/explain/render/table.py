"""A table's row as bars: how much each column spoke for or against the target."""

from __future__ import annotations

import math
from collections.abc import Sequence

from service.explain.render.bars import Bar
from service.manifest import Column


def table_bars(columns: Sequence[Column], values: Sequence[float], attributions: Sequence[Sequence[float]]) -> list[Bar]:
    """One bar a column, with the row's own value in its unit or its category's name. `values` and each method's
    `attributions` are in the columns' order."""
    by_column = zip(*attributions, strict=True)
    rows = zip(columns, values, by_column, strict=True)
    return [Bar(column.name, _shown(value, column), tuple(map(float, parts))) for column, value, parts in rows]


def _shown(value: float, column: Column) -> str:
    if math.isnan(value):
        return "missing"
    if column.categories and value in range(len(column.categories)):
        return column.categories[int(value)]
    return f"{value:.6g}{' ' + column.unit if column.unit else ''}"

"""A table's row as bars: how much each column spoke for or against the target."""

from __future__ import annotations

import math
from collections.abc import Sequence

from service.explain.render.bars import Bar, largest
from service.manifest import Column

_LIMIT = 20


def table_bars(columns: Sequence[Column], values: Sequence[float], attributions: Sequence[float], limit: int = _LIMIT) -> list[Bar]:
    """One bar a column, largest first, with the row's own value in its unit or its category's name; beyond `limit` the rest
    is one bar. `values` and `attributions` are in the columns' order."""
    rows = zip(columns, values, attributions, strict=True)
    return largest([Bar(column.name, _shown(value, column), float(attribution)) for column, value, attribution in rows], limit)


def _shown(value: float, column: Column) -> str:
    if math.isnan(value):
        return "missing"
    if column.categories and value in range(len(column.categories)):
        return column.categories[int(value)]
    return f"{value:.6g}{' ' + column.unit if column.unit else ''}"

"""Features of a table's row: its columns, those that stand for one thing (a category's one-hot columns) together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.explain.features.feature import numbered
from service.manifest import TablePolicy

Array = NDArray[Any]


def columns(policy: TablePolicy, shape: tuple[int, ...]) -> Array:
    """Numbers (columns,) by the manifest's groups, in the order of each group's first column."""
    names = [column.group or f"\0{column.name}" for column in policy.columns]
    first = np.asarray([names.index(name) for name in names])
    return np.broadcast_to(numbered(first), shape)

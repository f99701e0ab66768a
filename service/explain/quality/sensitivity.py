"""Maximum sensitivity (Yeh et al. 2019, https://arxiv.org/abs/1901.09392): how much the explanation changes where the instance
hardly does, max over y near x of ||a(y) - a(x)|| / ||a(x)||.

Each neighbour is explained anew, by the same method with the same parameters and seed, so this costs as many explanations as
there are neighbours: fewer for costly methods. The largest of a few is a lower bound of the true maximum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from service.explain.attribution import Found, attribute
from service.explain.attribution.found import Untrusted
from service.explain.case import Case, Tensors
from service.manifest import Column

Array = NDArray[Any]
RADIUS = 0.02
"""Of the ball around the instance, as a part of what an input's values span: Captum's default too."""
MOST, LEAST = 8, 2
ROWS = 512
"""Rows of the model that all neighbours together may cost, as long as there are LEAST of them."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    maximum: float | None
    """None where the attributions are all zero."""
    neighbours: int
    radius: float
    rows: int


@dataclass(frozen=True, slots=True, eq=False)
class _Room:
    """What the values of an attributed tensor span (a number, or an array that fits it), and the bounds they keep."""

    span: Array
    low: float = -np.inf
    high: float = np.inf

    def moved(self, x: Array, rng: np.random.Generator) -> Array:
        """A point of the ball around `x`; values out of bounds are let be, missing ones stay missing."""
        step = RADIUS * self.span * rng.uniform(-1, 1, x.shape)
        return np.clip(x + step, np.minimum(self.low, x), np.maximum(self.high, x)).astype(x.dtype)


def sensitivity(case: Case, found: Found, seed: int) -> Sensitivity | None:
    """None where the instance has no neighbours: everything that the method attributes to is discrete. Raises TimeUp, Cancelled."""
    count = min(MOST, max(LEAST, ROWS // max(1, found.rows)))
    own = _flat(found.attributions)
    size = float(np.linalg.norm(own))
    largest, rows, tried = 0.0, 0, 0
    for point in neighbours(case, seed, count):
        try:
            other = attribute(case.neighbour(point))
        except Untrusted:
            continue  # there is no explanation there, so none to compare
        largest = max(largest, float(np.linalg.norm(_flat(other.attributions) - own)))
        rows += other.rows
        tried += 1
    return Sensitivity(largest / size if size > 0 else None, tried, RADIUS, rows) if tried else None


def neighbours(case: Case, seed: int, count: int) -> Iterator[Tensors]:
    """Points (1, ..) drawn evenly from the ball around the case's; none where nothing of it can move."""
    rooms = [_room(case, name, i) for i, name in enumerate(case.subject.at)]
    rng = np.random.default_rng(seed)
    for _ in range(count if any(room.span.any() for room in rooms) else 0):
        yield tuple(torch.from_numpy(room.moved(t.numpy(), rng)) for t, room in zip(case.point, rooms, strict=True))


def _room(case: Case, name: str, place: int) -> _Room:
    entry = next(i for i in case.subject.manifest.inputs if i.name == name)
    inside = case.subject.at[name] != name
    if inside and not case.request.method.needs_twin:
        return _Room(np.zeros(()))  # it attributes to the discrete input itself, which has no neighbours
    if inside:
        return _Room(_spanned(case, place))
    if entry.audio:  # what this sound spans: a part of full scale would drown a quiet one in noise
        return _Room(_spanned(case, place), -1.0, 1.0)
    if entry.range is not None:
        return _Room(np.asarray(entry.range[1] - entry.range[0]), *entry.range)
    if entry.table and all(c.categories or _wide(c) is not None for c in entry.table.columns):
        return _Room(np.asarray([0.0 if c.categories else _wide(c) for c in entry.table.columns]))
    return _Room(_spanned(case, place))


def _spanned(case: Case, place: int) -> Array:
    """Of the instance and its baseline: all that is known of the values of a tensor nobody described."""
    values = np.concatenate([t[place].numpy().reshape(-1) for t in (case.point, case.baseline.point)]).astype(np.float64)
    values = values[np.isfinite(values)]
    return np.asarray(np.ptp(values) if values.size else 0.0)


def _wide(column: Column) -> float | None:
    if column.minimum is not None and column.maximum is not None:
        return column.maximum - column.minimum
    return None if column.std is None else 4 * column.std


def _flat(attributions: Mapping[str, Array]) -> Array:
    return np.concatenate([attributions[name].astype(np.float64).reshape(-1) for name in sorted(attributions)])

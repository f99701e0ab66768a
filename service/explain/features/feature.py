"""What a feature of an input is to the methods by perturbation: elements that are left out together and share an attribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Features(Protocol):
    """The features of one input's one row."""

    @property
    def count(self) -> int: ...

    @property
    def described(self) -> Mapping[str, Any]:
        """As an answer's `parameters` name them."""

    def mix(self, present: Array, x: Array, absent: Array) -> Array:
        """Rows (N, ..) that are `x` (1, ..) where a feature is present, (N, count) bool, and `absent` (1 or N, ..) elsewhere."""

    def idle(self, x: Array, absent: Array) -> Array:
        """Which features (count,) bool leaving out changes nothing, since `absent` (A, ..) is there what `x` (1, ..) is."""

    def spread(self, values: Array) -> Array:
        """Attributions of the features (count,) to those of the input's elements (..), float32, so that sums are kept: a
        feature's is divided evenly among its elements."""

    def drawing(self, values: Array, /) -> Mapping[str, Any]:
        """What else than the elements' attributions an answer shows of the features' (count,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Elements by the number of their feature: `of` is the input's shape without the batch axis, 0 to count - 1, none left
    out."""

    of: Array
    described: Mapping[str, Any]

    @property
    def count(self) -> int:
        return int(self.of.max()) + 1

    def mix(self, present: Array, x: Array, absent: Array) -> Array:
        """Tensors may have axes behind the input's, as an embedding has."""
        chosen = present[:, self.of]  # (N, ..)
        chosen = chosen.reshape(*chosen.shape, *(1,) * (x.ndim - chosen.ndim))
        return np.where(chosen, x, absent.astype(x.dtype))

    def idle(self, x: Array, absent: Array) -> Array:
        other = absent.astype(x.dtype)
        same = x == other
        if x.dtype.kind == "f":
            same |= np.isnan(x) & np.isnan(other)
        same = same.all(axis=(0, *range(1 + self.of.ndim, x.ndim)))  # the input's shape
        changed = np.bincount(self.of.reshape(-1), np.broadcast_to(~same, self.of.shape).reshape(-1), self.count)
        return np.asarray(changed == 0)

    def spread(self, values: Array) -> Array:
        sizes = np.bincount(self.of.reshape(-1), minlength=self.count)
        return np.asarray((values / sizes)[self.of], np.float32)

    def drawing(self, _: Array) -> Mapping[str, Any]:
        return {}


def numbered(labels: Array) -> Array:
    """Labels of any kind as numbers from 0 without gaps, in their order."""
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)

"""A bundle's typical instances, its reference set, as rows that the model takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.manifest import Input, Manifest

Array = NDArray[Any]
Arrays = Mapping[str, Array]


def typical_rows(manifest: Manifest, reference: Arrays, most: int) -> Iterator[dict[str, Array]]:
    """Graph inputs (1, ..) of the first instances of a reference set (R, ..): a text's ids without the padding behind them, with
    their number where the model asks for it."""
    texts = {entry.name: entry for entry in manifest.inputs if entry.text}
    for i in range(min((most, *(len(array) for array in reference.values())), default=0) if reference else 0):
        row = {name: np.ascontiguousarray(array[i : i + 1]) for name, array in reference.items()}
        for name, entry in texts.items():
            if name in row:
                row |= _unpadded(entry, row[name])
        yield row


def _unpadded(entry: Input, ids: Array) -> dict[str, Array]:
    """The ids (1, L) up to the last one that isn't padding, at least one; and how many these are."""
    policy = entry.text
    assert policy is not None
    if policy.lengths is None:  # padding is then something that the model has been trained to see
        return {}
    length = max(1, int(np.flatnonzero(ids[0] != policy.pad_id).max(initial=-1)) + 1)
    return {entry.name: np.ascontiguousarray(ids[:, :length]), policy.lengths: np.array([length], np.int64)}

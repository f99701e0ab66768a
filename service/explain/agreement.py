"""How far several methods agree on one instance: the rank correlations of their attributions. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.explain.answer import Explanation

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Agreement:
    methods: tuple[str, ...]
    spearman: tuple[tuple[float | None, ...], ...]
    """Spearman's rank correlation of each pair, -1 to 1; None where one of the two has no attributions or all alike. A method
    whose attributions are magnitudes is compared with the others' magnitudes."""


def agreement(explanations: Sequence[Explanation]) -> Agreement:
    """Of several methods' explanations of one instance."""
    values = [None if e.attributions is None else _flat(e.attributions) for e in explanations]
    signed = [bool(e.fields["signed"]) for e in explanations]
    rows = tuple(
        tuple(_spearman(a, b, magnitudes=not (s and t)) for b, t in zip(values, signed, strict=True))
        for a, s in zip(values, signed, strict=True)
    )
    return Agreement(tuple(str(e.fields["method"]) for e in explanations), rows)


def _flat(attributions: Mapping[str, Array]) -> Array:
    return np.concatenate([np.asarray(attributions[name], np.float64).reshape(-1) for name in sorted(attributions)])


def _spearman(a: Array | None, b: Array | None, *, magnitudes: bool) -> float | None:
    if a is None or b is None or a.shape != b.shape or a.size < 2:
        return None
    ranks = [_ranks(np.abs(values) if magnitudes else values) for values in (a, b)]
    if any(r.std() == 0 for r in ranks):
        return None
    return float(np.clip(np.corrcoef(ranks[0], ranks[1])[0, 1], -1.0, 1.0))


def _ranks(values: Array) -> Array:
    """Ranks from 0, ties sharing their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse]

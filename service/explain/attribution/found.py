"""What running a method gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.explain.case import Case

Array = NDArray[Any]


class Untrusted(Exception):
    """What a method found can't be right; the message says how that shows. Answered without attributions."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """A method's answer for one row."""

    attributions: Mapping[str, Array]
    """By input, in the input's own shape without the batch axis, float32."""
    steps: int
    """Nodes, samples or evaluations, as the method counts."""
    rows: int
    """Rows that the twin or the served model computed."""
    timed_out: bool = False
    converged: bool = True
    """Whether all that the method controls its error by is within the tolerance."""
    baseline: Any = None
    """As an answer's `parameters` names it; None where the method takes none."""
    baseline_output: float | None = None
    """F there."""
    parameters: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """What the method chose itself: its rule, its layer, its features."""
    warnings: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """What else an answer shows, by its own name there."""

    @property
    def total(self) -> float:
        """The sum of all attributions."""
        return float(sum(a.astype(np.float64).sum() for a in self.attributions.values()))


def require_parity(case: Case) -> None:
    """Raises Untrusted where the twin differs from the served model on this instance."""
    if not case.parity <= (limit := case.subject.status.parity_limit):
        raise Untrusted(
            f"on this instance the model's twin differs from the served model (parity error {case.parity:.2g}, limit {limit:.2g}), "
            "so there is no explanation to trust"
        )

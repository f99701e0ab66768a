"""The trust figures of one explanation as a value, and as an answer's `quality`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from service.explain.quality.curves import Curves
from service.explain.quality.infidelity import Infidelity
from service.explain.quality.sensitivity import Sensitivity


@dataclass(frozen=True, slots=True)
class Figures:
    """A figure is None where it doesn't apply, or where time ended before it was there."""

    completeness_error: float | None
    integration_error: float | None
    """Estimated distance of integrated gradients from the integral, relative."""
    parity_error: float | None
    units: int
    """Parts in which the instance differs from its baseline."""
    noun: str
    """What these parts are."""
    curves: Curves | None
    infidelity: Infidelity | None
    sensitivity: Sensitivity | None
    timed_out: bool
    seconds: float

    def as_json(self) -> dict[str, Any]:
        c, i, s = self.curves, self.infidelity, self.sensitivity
        return {
            "completeness_error": self.completeness_error,
            "parity_error": self.parity_error,
            "infidelity": i and i.relative,
            "infidelity_standard_error": i and i.standard_error,
            "infidelity_scaled": i and i.scaled,
            "infidelity_scale": i and i.scale,
            "infidelity_raw": i and i.raw,
            "infidelity_draws": i and i.draws,
            "sensitivity_max": s and s.maximum,
            "sensitivity_neighbours": s and s.neighbours,
            "sensitivity_radius": s and s.radius,
            "deletion": c and asdict(c.deletion),
            "insertion": c and asdict(c.insertion),
            "curves_show": c and c.shows,
            "beyond_chance": c and c.beyond_chance,
            "removed": self.noun,
            "units": self.units,
            "rows": (c.rows if c else 0) + (i.draws + 1 if i else 0) + (s.rows if s else 0),
            "seconds": round(self.seconds, 6),
            "complete": not self.timed_out,
        }

"""Throughput and latency against concurrency, the knee, and honest percentiles at half of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from service.benching.load import Address, Load, closed_loop, open_loop
from service.errors import WhyserveError

GROWTH = 1.05
"""A concurrency counts as faster where its throughput is 5 % above the best before it."""
MOST = 256
PERCENTILES = (50, 90, 99)


class NothingMeasured(WhyserveError):
    """No request was answered with 200."""

    code = "nothing_measured"


@dataclass(frozen=True, slots=True)
class Level:
    concurrency: int
    load: Load


@dataclass(frozen=True, slots=True)
class Measured:
    model: str
    verb: str
    levels: Sequence[Level]
    arrivals: Load
    """The open loop."""
    arrival_rate: float
    """Requests a second that were due in the open loop."""

    @property
    def knee(self) -> Level:
        return knee(self.levels)

    def as_json(self) -> dict[str, Any]:
        at = self.knee
        return {
            "model": self.model,
            "verb": self.verb,
            "levels": [{"concurrency": level.concurrency, **_figures(level.load)} for level in self.levels],
            "knee": {"concurrency": at.concurrency, "requests_per_second": at.load.rate},
            "open_loop": {"due_per_second": self.arrival_rate, **_figures(self.arrivals)},
        }

    def text(self) -> str:
        rows = [(f"{level.concurrency} under way", level.load) for level in self.levels]
        rows.append((f"{self.arrival_rate:.4g}/s arriving", self.arrivals))
        lines = [
            f"{self.model} :{self.verb}",
            f"{'':<20}{'requests/s':>12}{'p50 ms':>10}{'p90 ms':>10}{'p99 ms':>10}{'max ms':>10}  not 200",
        ]
        for name, load in rows:
            cells = [*(load.percentile(percent) for percent in PERCENTILES), max(load.latencies, default=0.0)]
            latencies = "".join(f"{cell * 1e3:>10.4g}" if load.requests else f"{'-':>10}" for cell in cells)
            lines.append(f"{name:<20}{load.rate:>12.4g}{latencies}  {_listed(load)}")
        at = self.knee
        lines.append(f"knee: {at.concurrency} under way, {at.load.rate:.4g} requests/s (least concurrency within 5 % of the highest rate)")
        lines.append("arriving: by chance (Poisson) at half of the knee; latency from the moment a request was due")
        if first := next((load.first_failure for _, load in rows if load.failures), ""):
            lines.append(f"the first answer that was not 200: {first}")
        return "\n".join(lines)


def measured(
    model: str, verb: str, address: Address, requests: Sequence[bytes], seconds: float, said: Callable[[Level], None] = lambda _: None
) -> Measured:
    """Doubles the concurrency, `seconds` each, until throughput has twice not grown by 5 % (256 at most); then the open loop at half of
    the knee. `said` hears each level. Raises NothingMeasured, OSError where nobody listens."""
    levels: list[Level] = []
    concurrency, best, stalled = 1, 0.0, 0
    while concurrency <= MOST and stalled < 2:
        level = Level(concurrency, closed_loop(address, requests, concurrency, seconds))
        levels.append(level)
        said(level)
        stalled = 0 if level.load.rate > best * GROWTH else stalled + 1
        best = max(best, level.load.rate)
        concurrency *= 2
    if not best:
        failures = sum((Counter(level.load.failures) for level in levels), Counter())
        why = f"{dict(failures)}, the first: {levels[0].load.first_failure}" if failures else "raise --seconds: none was answered in time"
        raise NothingMeasured(f"no request was answered with 200: {why}")
    rate = knee(levels).load.rate / 2
    return Measured(model, verb, levels, open_loop(address, requests, rate, seconds), rate)


def knee(levels: Sequence[Level]) -> Level:
    """The least concurrency whose throughput is within 5 % of the highest: beyond it requests only wait longer."""
    highest = max(level.load.rate for level in levels)
    return next(level for level in levels if level.load.rate * GROWTH >= highest)


def _figures(load: Load) -> dict[str, Any]:
    milliseconds: dict[str, float | None] = {f"p{p}_ms": load.percentile(p) * 1e3 if load.requests else None for p in PERCENTILES}
    milliseconds["max_ms"] = max(load.latencies) * 1e3 if load.requests else None
    return {"requests": load.requests, "requests_per_second": load.rate, **milliseconds, "failures": dict(load.failures)}


def _listed(load: Load) -> str:
    return ", ".join(f"{count} x {kind}" for kind, count in load.failures.items()) or "0"

"""Histograms for the predict path: counted without locks, by the event loop's thread alone, and read when Prometheus asks.

prometheus_client's own takes three locks an observation, and a prediction makes five: a tenth of all Python that a small network's
prediction runs (`python -m bench.predict` has the figures of the whole). The page they appear on is prometheus_client's.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector


class Series:
    """The observations of one set of label values."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Observations a bucket, not added up; the last is beyond every bound."""
        self.total = 0.0

    def observe(self, amount: float) -> None:
        """On the event loop's thread only. A bound belongs to the bucket below it (`le`)."""
        self.counts[bisect_left(self._bounds, amount)] += 1
        self.total += amount


class Histogram(Collector):
    """A family of series by label values, as prometheus_client's of the same name."""

    def __init__(
        self, name: str, documentation: str, labelnames: Sequence[str] = (), *, buckets: Sequence[float], registry: CollectorRegistry
    ) -> None:
        """`buckets` are upper bounds, rising, without infinity."""
        self._about = (name, documentation)
        self._labelnames = tuple(labelnames)
        self._bounds = tuple(float(bound) for bound in buckets)
        self._names = [*map(str, self._bounds), "+Inf"]
        self._series: dict[tuple[str, ...], Series] = {}
        registry.register(self)

    def labels(self, *values: str) -> Series:
        """The series of these values, made where it is asked for first. Raises ValueError for another number of values."""
        if len(values) != len(self._labelnames):
            raise ValueError(f"{self._about[0]} has the labels {self._labelnames}, got {values}")
        if values not in self._series:
            self._series[values] = Series(self._bounds)
        return self._series[values]

    def describe(self) -> Iterator[Metric]:
        yield HistogramMetricFamily(*self._about, labels=self._labelnames)

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(*self._about, labels=self._labelnames)
        for values, series in list(self._series.items()):
            family.add_metric(values, list(zip(self._names, accumulate(series.counts), strict=True)), series.total)
        yield family

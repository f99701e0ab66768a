"""Histograms against prometheus_client's own: the same observations, the same page."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as Theirs
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics

from service.histogram import Histogram

BOUNDS = (1e-7, 0.001, 0.01, 0.1, 1, 60)
SEEN = (0, 0.0005, 0.001, 0.0010001, 0.1, 0.5, 1, 59.9, 60, 60.1, 1e9)


def page(kind: type, write) -> list[str]:
    registry = CollectorRegistry()
    histogram = kind("waited_seconds", "Waiting", ("model", "stage"), buckets=BOUNDS, registry=registry)
    for amount in SEEN:
        histogram.labels("a", "x").observe(amount)
    histogram.labels('quo"te', "y").observe(0.2)
    histogram.labels("never", "observed")
    return [line for line in write(registry).decode().splitlines() if "_created" not in line]


@pytest.mark.parametrize("write", [generate_latest, open_metrics])
def test_the_page_is_prometheus_clients(write):
    assert sorted(page(Histogram, write)) == sorted(page(Theirs, write))


def test_without_labels():
    registry = CollectorRegistry()
    Histogram("waited", "Waiting", buckets=BOUNDS, registry=registry).labels().observe(2)
    assert registry.get_sample_value("waited_bucket", {"le": "60.0"}) == 1
    assert registry.get_sample_value("waited_bucket", {"le": "1.0"}) == 0
    assert registry.get_sample_value("waited_sum") == 2


def test_another_number_of_labels_is_refused():
    histogram = Histogram("waited", "Waiting", ("model",), buckets=BOUNDS, registry=CollectorRegistry())
    with pytest.raises(ValueError, match="has the labels"):
        histogram.labels()

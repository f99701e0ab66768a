"""Metrics: every Prometheus series of the server, under one registry that the app owns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from service.histogram import Histogram, Series

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_ERRORS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_PASSES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 128, 256, 512, 1024, 4096, 16384)
_MODEL = ("model_name", "model_version")
OPERATIONS = ("predict", "explain", "generate", "activations", "explain-layer", "visualise")
STAGES = ("preprocess", "predict", "explain", "postprocess")
OUTCOMES = ("ok", "client_error", "server_error", "cancelled")


@dataclass(frozen=True, slots=True)
class ModelSeries:
    """The series of one model version, resolved once at load: an observe through `labels()` costs twice as much."""

    requests: dict[tuple[str, str], Any]
    """Counter by (operation, outcome)."""
    duration: dict[str, Series]
    """By operation."""
    queue: Series
    batch_size: Series
    stage: dict[str, Series]
    """By stage: preprocess, predict, explain, postprocess."""


class Stopwatch:
    """Times the stages of one request, each from the end of the one before."""

    __slots__ = ("_last", "_stages")

    def __init__(self, series: ModelSeries) -> None:
        self._stages = series.stage
        self._last = perf_counter()

    def lap(self, stage: str) -> None:
        """Ends a stage."""
        now = perf_counter()
        self._stages[stage].observe(now - self._last)
        self._last = now


class KServeStages(Collector):
    """KServe's own four histograms, `request_<stage>_seconds`, so that its dashboards work: the stages by another name.

    Read off the same counts when the metrics are read, so that a request pays for one observe a stage.
    """

    def __init__(self, stages: Histogram) -> None:
        self._stages = stages

    def collect(self) -> Iterator[Metric]:
        families = {stage: Metric(f"request_{stage}_seconds", f"KServe: {stage}", "histogram") for stage in STAGES}
        summed: dict[tuple[str, str, str, str], float] = {}
        for metric in self._stages.collect():
            for sample in metric.samples:
                key = (sample.labels["stage"], sample.name.rpartition("_")[2], sample.labels["model_name"], sample.labels.get("le", ""))
                summed[key] = summed.get(key, 0.0) + sample.value  # KServe knows no versions
        for (stage, suffix, name, bound), value in summed.items():
            labels = {"model_name": name} | ({"le": bound} if bound else {})
            families[stage].add_sample(f"request_{stage}_seconds_{suffix}", labels, value)
        yield from families.values()


class Metrics:
    """Makes and holds the series. `registry` is the app's own, so that two apps in one process don't collide."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        r = self.registry
        self.requests = Counter("whyserve_requests", "Requests answered", (*_MODEL, "operation", "outcome"), registry=r)
        self.duration = Histogram(
            "whyserve_request_duration_seconds", "Body read to answer encoded", (*_MODEL, "operation"), buckets=_SECONDS, registry=r
        )
        self.queue = Histogram("whyserve_queue_duration_seconds", "Waiting for a batch", _MODEL, buckets=_SECONDS, registry=r)
        self.compute = Histogram(
            "whyserve_compute_duration_seconds", "Computing, by stage", (*_MODEL, "stage"), buckets=_SECONDS, registry=r
        )
        self.batch_size = Histogram("whyserve_batch_size", "Rows a run of the model", _MODEL, buckets=_ROWS, registry=r)
        self.pending = Gauge("whyserve_pending_requests", "Requests being worked on", (*_MODEL, "operation"), registry=r)
        self.rejected = Counter("whyserve_rejected", "Requests refused before any work, by reason", ("reason",), registry=r)
        self.explain_wait = Histogram("whyserve_explain_wait_seconds", "In line for an explainer", buckets=_SECONDS, registry=r).labels()
        self.explain_work = Gauge("whyserve_explain_queue_work_seconds", "Estimated work that waits or runs", registry=r)
        self.postponed = Gauge(
            "whyserve_explain_postponed", "Asynchronous explanations that found no room in line and come back", registry=r
        )
        self.explain_length = Gauge("whyserve_explain_queue_length", "Explanations in line", ("priority",), registry=r)
        self.explainers_alive = Gauge("whyserve_explainers_alive", "Explainer processes that answer", registry=r)
        self.explainer_replaced = Counter("whyserve_explainer_replaced", "Explainer processes replaced, by reason", ("reason",), registry=r)
        self.explain_rows = Histogram("whyserve_explain_rows", "Rows of an explanation", (*_MODEL, "method"), buckets=_PASSES, registry=r)
        self.explain_steps = Histogram("whyserve_explain_steps", "Steps of one", (*_MODEL, "method"), buckets=_PASSES, registry=r)
        self.explain_duration = Histogram(
            "whyserve_explain_duration_seconds", "One explanation", (*_MODEL, "method"), buckets=_SECONDS, registry=r
        )
        self.completeness = Histogram(
            "whyserve_completeness_error", "Of explanations, relative", (*_MODEL, "method"), buckets=_ERRORS, registry=r
        )
        self.parity = Histogram("whyserve_parity_error", "Twin against served model", _MODEL, buckets=_ERRORS, registry=r)
        self.cache_hits = Counter("whyserve_explanation_cache_hits", "Explanations that were known", registry=r)
        self.cache_misses = Counter("whyserve_explanation_cache_misses", "Explanations that were computed", registry=r)
        self.cache_joined = Counter("whyserve_explanation_cache_joined", "Explanations that another request computed just then", registry=r)
        self.cache_evicted = Counter("whyserve_explanation_cache_evicted", "Explanations that made room for later ones", registry=r)
        self.cache_bytes = Gauge("whyserve_explanation_cache_bytes", "Held by explanations kept to answer repeats", registry=r)
        self.stored = Gauge("whyserve_stored_explanations", "Asynchronous explanations waiting, running or kept", registry=r)
        self.stored_bytes = Gauge("whyserve_stored_explanations_bytes", "Held by asynchronous explanations, about", registry=r)
        self.model_state = Gauge("whyserve_model_ready", "1: serving, 0: refused", _MODEL, registry=r)
        r.register(KServeStages(self.compute))

    def series(self, name: str, version: int) -> ModelSeries:
        """The series of a model version; what Prometheus calls children."""
        labels = (name, str(version))
        return ModelSeries(
            requests={(o, c): self.requests.labels(*labels, o, c) for o in OPERATIONS for c in OUTCOMES},
            duration={o: self.duration.labels(*labels, o) for o in OPERATIONS},
            queue=self.queue.labels(*labels),
            batch_size=self.batch_size.labels(*labels),
            stage={stage: self.compute.labels(*labels, stage) for stage in STAGES},
        )

    def watch(self, name: str, version: int, inflight: Mapping[str, int]) -> None:
        """Reads the pending requests of a model when the metrics are read: no work on the request's own path."""
        for operation in OPERATIONS:
            self.pending.labels(name, str(version), operation).set_function(partial(inflight.__getitem__, operation))

    def watch_line(self, *, length: Callable[[bool], int], work: Callable[[], float], alive: Callable[[], int]) -> None:
        """Reads the line of explanations when the metrics are read; `length` of those that are interactive, or not."""
        self.explain_length.labels("interactive").set_function(lambda: length(True))
        self.explain_length.labels("asynchronous").set_function(lambda: length(False))
        self.explain_work.set_function(work)
        self.explainers_alive.set_function(alive)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The metrics page and its Content-Type: Prometheus text, or OpenMetrics where `accept` asks for it."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

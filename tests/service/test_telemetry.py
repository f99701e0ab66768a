"""The metrics page: the contract's names and labels, after real requests."""

from __future__ import annotations

import httpx
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as prometheus
from support import Bundle

from service.telemetry import Metrics

EXPECTED = {
    "whyserve_requests": {"model_name", "model_version", "operation", "outcome"},
    "whyserve_request_duration_seconds": {"model_name", "model_version", "operation"},
    "whyserve_queue_duration_seconds": {"model_name", "model_version"},
    "whyserve_compute_duration_seconds": {"model_name", "model_version", "stage"},
    "whyserve_batch_size": {"model_name", "model_version"},
    "whyserve_pending_requests": {"model_name", "model_version", "operation"},
    "whyserve_rejected": {"reason"},
    "whyserve_explain_duration_seconds": {"model_name", "model_version", "method"},
    "whyserve_completeness_error": {"model_name", "model_version", "method"},
    "whyserve_parity_error": {"model_name", "model_version"},
    "request_preprocess_seconds": {"model_name"},
    "request_predict_seconds": {"model_name"},
    "request_explain_seconds": {"model_name"},
    "request_postprocess_seconds": {"model_name"},
}


def test_the_contracts_series_are_there_with_their_labels(client: httpx.Client, bundle: Bundle):
    """By prometheus_client's own parser, in both forms."""
    body = {"instances": [bundle.instance()]}
    client.post(f"{bundle.v1}:predict", json=body)
    client.post(f"{bundle.v1}:explain", json=body)
    client.post("/v2/repository/models/nope/load")  # refused: counted as rejected
    for accept, parse in (("text/plain", prometheus), ("application/openmetrics-text; version=1.0.0", open_metrics)):
        response = client.get("/metrics", headers={"accept": accept})
        assert response.headers["content-type"].startswith(accept.partition(";")[0])
        families = {family.name: family for family in parse(response.text)}
        for name, labels in EXPECTED.items():
            samples = families[name].samples
            own = [sample for sample in samples if sample.labels.get("model_name", bundle.name) == bundle.name]
            assert own, name
            assert {frozenset(sample.labels) - {"le"} for sample in own} == {frozenset(labels)}, name
        totals = {sample.name for sample in families["whyserve_requests"].samples}
        assert "whyserve_requests_total" in totals


def test_durations_and_counts_agree(client: httpx.Client, bundle: Bundle):
    def count(name: str, **labels: str) -> float:
        text = client.get("/metrics").text
        wanted = {"model_name": bundle.name} | labels
        samples = (sample for family in prometheus(text) for sample in family.samples)
        return sum(sample.value for sample in samples if sample.name == name and wanted.items() <= sample.labels.items())

    before = [count("whyserve_request_duration_seconds_count", operation="predict"), count("request_predict_seconds_count")]
    for _ in range(3):
        client.post(f"{bundle.v1}:predict", json={"instances": [bundle.instance()] * 4})
    after = [count("whyserve_request_duration_seconds_count", operation="predict"), count("request_predict_seconds_count")]
    assert [a - b for a, b in zip(after, before, strict=True)] == [3, 3]
    assert count("whyserve_batch_size_sum") >= 12
    assert count("whyserve_pending_requests") == 0


def test_two_apps_of_one_process_do_not_collide():
    first, second = Metrics(), Metrics()
    first.series("m", 1).requests["predict", "ok"].inc()
    assert b'whyserve_requests_total{model_name="m",model_version="1",operation="predict",outcome="ok"} 1.0' in first.exposition("")[0]
    assert b'model_name="m"' not in second.exposition("")[0]

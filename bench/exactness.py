"""Completeness and parity of default explanations, on test pictures and test sentences of the real datasets."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
import numpy as np

from bench.samples import digits, sentences
from bench.servers import serving
from bench.table import markdown

_COUNT = 100


@dataclass(frozen=True, slots=True)
class _Explained:
    completeness: list[float]
    uncalibrated: list[float]
    integration: list[float]
    parity: list[float]
    rows: list[int]
    seconds: list[float]
    converged: int


def report() -> str:
    """A table by model: median, 95th percentile and maximum of the completeness error (and of what it was before calibration), estimated
    distance from the integral, parity error, rows, seconds."""
    rows = []
    with serving(explainers=1) as server, httpx.Client(base_url=server.url, timeout=120) as client:
        for model, content_type, bodies in (
            ("mnist-cnn", "image/png", digits(_COUNT)),
            ("sst2-gru", "text/plain", sentences(_COUNT)),
        ):
            found = _explain(client, model, content_type, bodies)
            error = np.array(found.completeness)
            rows.append(
                (
                    model,
                    len(bodies),
                    float(np.median(error)),
                    float(np.percentile(error, 95)),
                    float(error.max()),
                    float(np.median(found.uncalibrated)),
                    float(np.percentile(found.uncalibrated, 95)),
                    float(np.median(found.integration)),
                    float(np.percentile(found.integration, 95)),
                    found.converged,
                    float(max(found.parity)),
                    float(np.median(found.rows)),
                    float(np.median(found.seconds) * 1e3),
                )
            )
    header = (
        "model",
        "n",
        "completeness, median",
        "p95",
        "max",
        "uncalibrated, median",
        "p95",
        "distance, median",
        "p95",
        "converged",
        "parity, max",
        "gradient rows, median",
        "ms, median",
    )
    return "Default `:explain` (integrated gradients, tolerance 0.01), test data\n\n" + markdown(header, rows)


def _explain(client: httpx.Client, model: str, content_type: str, bodies: list[bytes]) -> _Explained:
    found = _Explained([], [], [], [], [], [], 0)
    converged = 0
    for body in bodies:
        response = client.post(f"/v1/models/{model}:explain", content=body, headers={"content-type": content_type})
        if response.status_code != 200:
            raise RuntimeError(f"{model}: {response.text[:300]}")
        explanation = response.json()["explanations"][0]
        found.completeness.append(explanation["completeness_error"])
        found.uncalibrated.append(explanation["uncalibrated_error"])
        found.integration.append(explanation["integration_error"])
        found.parity.append(explanation["parity_error"])
        found.rows.append(explanation["rows"])
        found.seconds.append(explanation["seconds"])
        converged += bool(explanation["converged"])
    return _Explained(found.completeness, found.uncalibrated, found.integration, found.parity, found.rows, found.seconds, converged)

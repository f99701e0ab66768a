"""A short real run on the real sentences: it must learn, and its bundle must be whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from service.manifest import Golden, Manifest
from training.recipes.sst2_gru import Config, train
from training.session import Session

pytestmark = pytest.mark.skipif(
    "WHYSERVE_DATA" not in os.environ, reason="needs SST-2 (licence not stated, so not committed): set WHYSERVE_DATA"
)


def run(tmp_path: Path, name: str, **options: int) -> Manifest:
    torch.set_num_threads(1)
    session = Session(device="cpu", out=tmp_path / name, runs=tmp_path / f"{name}-runs")
    (folder,) = train(Config(**{"epochs": 1, "ema": None, **options}), session)
    assert folder == tmp_path / name / "sst2-gru" / "1"
    Golden.read(folder)
    return Manifest.read(folder)


def figure(manifest: Manifest, name: str, split: str) -> float:
    return next(metric.value for metric in manifest.metrics if metric.name == name and metric.split == split)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return run(tmp_path_factory.mktemp("sst2"), "full")


def test_one_epoch_learns(manifest: Manifest) -> None:
    """Half of the sentences are positive; one epoch measured 0.76."""
    assert figure(manifest, "accuracy", "validation") > 0.72
    assert figure(manifest, "cross_entropy", "validation") < 0.58


def test_naive_bayes_stands_beside_it(manifest: Manifest) -> None:
    """scikit-learn's, and about what Wang & Manning 2012 report for sentences of film reviews (0.79)."""
    assert figure(manifest, "naive_bayes_accuracy", "validation") == pytest.approx(0.805, abs=0.003)
    assert 0.81 < figure(manifest, "naive_bayes_accuracy", "test") < 0.84


def test_manifest_names_where_attribution_is_taken(manifest: Manifest) -> None:
    assert manifest.explain is not None
    assert manifest.explain.attribute_at == {"tokens": "embedding"}
    assert manifest.explain.baseline["tokens"].value == 0
    assert manifest.inputs[0].text is not None
    assert manifest.inputs[0].text.lengths == "lengths"


@pytest.mark.slow
def test_same_seed_same_figures_and_the_best_of_several_is_exported(manifest: Manifest, tmp_path: Path) -> None:
    several = run(tmp_path, "several", seeds=2)
    (mean,) = (metric for metric in several.metrics if metric.name == "mean_accuracy")
    assert "mean of 2 seeds" in mean.note
    assert f"{figure(manifest, 'accuracy', 'test'):.4f}" in mean.note  # seed 0 again
    assert figure(several, "cross_entropy", "validation") <= figure(manifest, "cross_entropy", "validation")

"""Our attributions on exported graphs against Captum's on the original modules: the short form of `python -m bench agreement`."""

from __future__ import annotations

import pytest
import torch

from bench.agreement.measure import captum_alone, measure
from bench.agreement.networks import NETWORKS

torch.set_num_threads(1)
REFUSED = {
    "CNN": set(),
    "MLP": {"Grad-CAM", "guided Grad-CAM"},
    "residual": set(),
    "generator": {"Grad-CAM", "guided Grad-CAM"},
    "GRU": {"DeepLIFT", "DeepLIFT SHAP", "LRP epsilon", "LRP gamma", "LRP alpha1 beta0", "Grad-CAM", "guided Grad-CAM"},
    "LSTM": {"DeepLIFT", "DeepLIFT SHAP", "LRP epsilon", "LRP gamma", "LRP alpha1 beta0", "Grad-CAM", "guided Grad-CAM"},
    "transformer": {"DeepLIFT", "DeepLIFT SHAP", "LRP epsilon", "LRP gamma", "LRP alpha1 beta0", "Grad-CAM", "guided Grad-CAM"},
}


QUICK = ("CNN", "residual")
"""Exporting and loading takes seconds a network, so the others are among the slow tests."""


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS])
def test_agrees_with_captum_or_is_refused_with_the_reason(name: str) -> None:
    for found in measure(NETWORKS[name], count=2):
        if found.refused:
            assert found.method in REFUSED[name], found
            assert "in this model's graph" in found.refused
        else:
            assert found.method not in REFUSED[name]
            assert max(found.distances) <= 1e-4, found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CNN", "residual"])
def test_agrees_on_the_older_exporters_graph_too(name: str) -> None:
    for found in measure(NETWORKS[name], count=1, exporter="torchscript"):
        assert not found.refused
        assert max(found.distances) <= 1e-4, found


def test_deep_lift_adds_up_where_captums_own_does_not() -> None:
    """ReLU and MaxPool share a tensor in the module."""
    theirs, ours = captum_alone(NETWORKS["CNN"], 5)
    assert theirs > 0.01
    assert ours < 1e-4

"""Gradients of several explanations in one pass: each with its own target, by either way the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from service.explain import slopes
from service.explain.gradient_graph import gradient_graph
from service.explain.scalar import Scalar
from service.explain.slopes import Rows
from service.explain.subject import Subject
from service.explain.targets import Target
from service.explain.trial import trial_inputs
from service.manifest import MODEL_FILE

TARGETS = (Target((2,)), Target((0,), sign=-1.0), Target((slice(1, 3),)))


@pytest.fixture(scope="module")
def subject(subjects: Mapping[str, Subject], bundles: Path) -> Subject:
    """With its gradient graph, whether that was faster here or not."""
    found, model = subjects["cnn"], onnx.load(bundles / "cnn" / "1" / MODEL_FILE)
    trials = [trial_inputs(found.manifest, found.served.inputs, model, rows) for rows in (1, 3)]
    return replace(found, graph=gradient_graph(model, found, 1, trials))


def test_the_way(subject: Subject) -> None:
    graph = subject.graph
    assert graph is not None
    scalar = Scalar(graph.tensor, TARGETS[0], "logit")
    assert slopes.way(subject, "folded", scalar) == "graph"
    assert slopes.way(subject, "mixed", scalar) == "mixed"
    assert slopes.way(subject, "faithful", scalar) == "faithful"
    assert slopes.way(subject, "folded", replace(scalar, activation="softmax")) == "folded"  # its slope changes from row to row
    assert slopes.way(subject, "folded", replace(scalar, tensor="another")) == "folded"
    assert slopes.way(replace(subject, graph=None), "folded", scalar) == "folded"


@pytest.mark.parametrize("by", ["graph", "folded"])
def test_each_block_has_its_own_target(subject: Subject, images: np.ndarray, cnn_module: torch.nn.Module, by: slopes.Way) -> None:
    assert subject.graph is not None
    points = [torch.from_numpy(images[:rows].copy()) for rows in (1, 3, 2)]
    scalars = [Scalar(subject.graph.tensor, target, "logit") for target in TARGETS]
    blocks = [Rows((p,), len(p), s, k == 1) for k, (p, s) in enumerate(zip(points, scalars, strict=True))]
    for point, target, found in zip(points, TARGETS, slopes.passed(subject, by, blocks), strict=True):
        leaf = point.clone().requires_grad_()
        wanted = torch.autograd.grad(target.of(cnn_module(leaf)).sum(), leaf)[0]
        (gradient,) = found.gradients
        assert gradient is not None
        np.testing.assert_allclose(gradient.numpy(), wanted.numpy(), rtol=1e-4, atol=1e-6)
    assert [found.outputs is not None for found in slopes.passed(subject, by, blocks)] == [False, True, False]


@pytest.mark.parametrize("target", TARGETS)
def test_a_targets_slope_is_its_gradient(target: Target) -> None:
    values = torch.randn(2, 4, requires_grad=True)
    wanted = torch.autograd.grad(target.of(values).sum(), values)[0].numpy()
    assert np.array_equal(target.slope((2, 4)), wanted)

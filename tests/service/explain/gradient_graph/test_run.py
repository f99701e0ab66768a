"""Which subjects have a gradient graph, and that one whose gradients aren't the twin's is never used."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from support import MODELS

from service.explain.gradient_graph import GradientGraph, gradient_graph, inputs_of, rules
from service.explain.loading import load
from service.explain.subject import Subject
from service.explain.trial import trial_inputs
from service.repository.bundle import Location, read_bundle


def bundled(name: str) -> tuple[onnx.ModelProto, Subject]:
    bundle = read_bundle(Location(name, 1, MODELS / name / "1"))
    return onnx.load(bundle.model_file), load(bundle)


def made_of(model: onnx.ModelProto, subject: Subject, rows: tuple[int, ...] = (1, 3)) -> GradientGraph | None:
    return gradient_graph(model, subject, 1, [trial_inputs(subject.manifest, subject.served.inputs, model, n) for n in rows])


@pytest.mark.parametrize("name", ["mnist-cnn", "wine-mlp", "wine-perceptron", "mnist-generator"])
def test_gradients_of_bundles(name: str):
    """Against the twin's autograd, at other inputs than those at which it was tried."""
    model, subject = bundled(name)
    made = made_of(model, subject)
    assert made is not None
    feeds = trial_inputs(subject.manifest, subject.served.inputs, model, 5, seed=7)
    served = subject.served.run(feeds)
    inputs = inputs_of(subject, feeds, served)
    tensors = [torch.from_numpy(array.copy()) for array in inputs.values()]
    leaves = [t.requires_grad_() for t in tensors[: len(made.wrt)]]
    (values,) = subject.segment((made.tensor,))(*tensors)
    seed = np.random.default_rng(3).standard_normal(tuple(values.shape)).astype(np.float32)
    wanted = torch.autograd.grad(values, leaves, torch.from_numpy(seed))
    found, ran = made.run(inputs, seed)
    for got, want in zip(found, wanted, strict=True):
        assert np.linalg.norm(got - want.numpy()) <= 1e-5 * np.linalg.norm(want.numpy())
    for name in subject.outputs:
        np.testing.assert_allclose(ran[name], served[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["sst2-gru", "fsdd-cnn"])
def test_bundles_whose_operators_have_no_rule(name: str):
    assert made_of(*bundled(name)) is None


def test_wrong_gradients_are_never_used(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    model, subject = bundled("wine-mlp")
    wrong: Mapping[str, rules.Rule] = {**rules.RULES, "Relu": rules.RULES["Identity"]}
    monkeypatch.setattr("service.explain.gradient_graph.build.RULES", wrong)
    with caplog.at_level(logging.WARNING):
        assert made_of(model, subject) is None
    assert "away from the twin's gradients" in caplog.text


def test_a_rule_that_stumbles_leaves_the_twin(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """Over what a file says, whatever that is."""

    def stumbles(*_: object) -> str:
        raise ZeroDivisionError

    model, subject = bundled("wine-mlp")
    monkeypatch.setattr("service.explain.gradient_graph.build.RULES", {**rules.RULES, "Relu": stumbles})
    with caplog.at_level(logging.WARNING):
        assert made_of(model, subject) is None
    assert "ZeroDivisionError" in caplog.text


def test_without_a_trial_nothing_is_known():
    assert made_of(*bundled("wine-mlp"), rows=()) is None


def test_a_graph_of_a_fixed_batch_has_none():
    model, subject = bundled("wine-mlp")
    inputs = tuple(replace(info, shape=(1, *info.shape[1:])) for info in subject.served.inputs)
    subject.served.inputs = inputs
    assert made_of(model, subject) is None


def test_a_large_model_has_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.explain.gradient_graph.run.LARGEST", 100)
    assert made_of(*bundled("wine-mlp")) is None


def test_what_rounds_straight_through_has_none():
    model, subject = bundled("wine-mlp")
    status = subject.status.model_copy(update={"straight_through": ("Round",)})
    assert made_of(model, replace(subject, status=status)) is None


def test_a_seed_has_the_shape_of_what_is_differentiated():
    made = made_of(*bundled("mnist-cnn"))
    assert made is not None
    assert made.row == (10,)

"""Methods by hooks, layers, noise and references: closed forms, refusals, and that nothing of an attribution stays behind."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bench.agreement.exported import exported
from bench.agreement.networks import NETWORKS, Network, made
from service.errors import BadBundle, BadParameter, NotExplainable, UnknownChoice
from service.explain.answer import Explanation
from service.explain.cancel import Cancelled, Token
from service.explain.explainer import explain
from service.explain.methods import find, resolve
from service.explain.methods.listing import refusal
from service.explain.reference_file import read
from service.explain.subject import Subject
from service.manifest import Explain, Input, Manifest, Output

torch.set_num_threads(1)
MEMORY = 64 << 20


def ask(subject: Subject, feeds: dict[str, np.ndarray], memory: int = MEMORY, token: Token | None = None, **more: Any) -> Explanation:
    return explain(subject, resolve(subject.manifest, more), feeds, token or Token(60), memory).explanations[0]


def with_reference(subject: Subject, **arrays: np.ndarray) -> Subject:
    return dataclasses.replace(subject, reference=arrays)


@pytest.fixture(scope="module")
def residual() -> tuple[nn.Module, Subject]:
    module = made(NETWORKS["residual"])
    return module, exported(copy.deepcopy(module), NETWORKS["residual"])


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return torch.randn(1, 1, 12, 12, generator=torch.Generator().manual_seed(4)).numpy()


# ------------------------------------------------------------------------------------------------------- closed forms


def test_epsilon_lrp_of_a_relu_network_is_input_times_gradient(residual, picture) -> None:
    """Ancona et al. 2018, proposition 3.1; through the sums of a residual network, where a wrong rule counts relevance twice."""
    module, subject = residual
    x = torch.from_numpy(picture).requires_grad_()
    module(x)[0, 2].backward()
    found = ask(subject, {"x": picture}, method="lrp", target=2).attributions["x"]
    np.testing.assert_allclose(found, (x * x.grad)[0].detach().numpy(), rtol=1e-3, atol=1e-6)


class Scaled(nn.Module):
    """Standardises its input, as a table's graph does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.relu, self.last = nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.relu(self.first((x - torch.tensor([1.0, 2.0, 3.0])) / torch.tensor([0.1, 10.0, 2.0]))))


def test_lrp_passes_relevance_through_the_graphs_own_scaling() -> None:
    """That of the network behind the scaling, whose inputs stand for the same quantities."""
    module = Scaled()
    subject = exported(module, Network(Scaled, (3,), 1))
    x = np.asarray([[1.05, 7.0, 2.0]], np.float32)
    inner = torch.tensor([[0.5, 0.5, -0.5]], requires_grad=True)
    module.last(module.relu(module.first(inner)))[0, 1].backward()
    np.testing.assert_allclose(
        ask(subject, {"x": x}, method="lrp", target=1).attributions["x"], (inner * inner.grad)[0].detach().numpy(), rtol=1e-4, atol=1e-6
    )


class Mixed(nn.Module):
    """Casts on the way, and multiplies by a constant from the left, which is no layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.relu, self.last = nn.Linear(3, 8), nn.ReLU(), nn.Parameter(torch.randn(2, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = self.relu(self.first(x)).double().float()
        return (self.last @ wide.unsqueeze(-1)).squeeze(-1)


def test_lrp_in_float64_takes_the_graphs_own_casts_and_constants_along() -> None:
    module = Mixed()
    subject = exported(module, Network(Mixed, (3,), 1))
    x = torch.tensor([[0.5, -1.5, 2.0]], requires_grad=True)
    module(x)[0, 1].backward()
    before = {name: p.detach().clone() for name, p in subject.faithful.named_parameters()}
    found = ask(subject, {"x": x.detach().numpy()}, method="lrp", target=1)
    np.testing.assert_allclose(found.attributions["x"], (x * x.grad)[0].detach().numpy(), rtol=1e-4, atol=1e-6)
    assert found.fields["parameters"]["computed_in"] == "float64"
    for name, parameter in subject.faithful.named_parameters():
        assert parameter.dtype == before[name].dtype
        assert torch.equal(parameter, before[name])


def test_deep_lift_of_a_linear_model_is_weight_times_difference(subjects) -> None:
    x = np.asarray([[1.0, -2.0, 0.3, 4.0, 0.0]], np.float32)
    w = np.random.default_rng(0).uniform(-1, 1, (4, 5)).astype(np.float32)
    found = ask(subjects["linear"], {"x": x}, method="deep_lift", target=2)
    np.testing.assert_allclose(found.attributions["x"], w[2] * (x[0] - 0.5), rtol=1e-4, atol=1e-6)
    assert found.fields["completeness_error"] < 1e-4


def test_a_probability_by_one_sigmoid_has_a_rule_and_by_softmax_none(subjects) -> None:
    found = ask(subjects["single"], {"x": np.ones((1, 3), np.float32)}, method="deep_lift", explained="probability", target="no")
    assert found.fields["completeness_error"] < 1e-4
    for method in ("lrp", "deep_lift"):
        with pytest.raises(NotExplainable, match="logit"):
            ask(subjects["linear"], {"x": np.ones((1, 5), np.float32)}, method=method, explained="probability")


def test_lrp_of_the_negative_score_has_the_negative_relevance(subjects) -> None:
    x = np.ones((1, 3), np.float32)
    yes, no = (ask(subjects["single"], {"x": x}, method="lrp", target=t).attributions["x"] for t in ("yes", "no"))
    np.testing.assert_allclose(yes, [1.0, -2.0, 0.5], rtol=1e-5)
    np.testing.assert_allclose(no, -yes, rtol=1e-5)


# ----------------------------------------------------------------------------------------------------------- refusals


class Pooled(nn.Module):
    def __init__(self, pool: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.conv, self.activation, self.pool = nn.Conv2d(1, 3, 3), activation, pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(self.activation(self.conv(x))).mean((2, 3))


@pytest.mark.parametrize(
    ("module", "method", "reason"),
    [
        (Pooled(nn.MaxPool2d(3, 1), nn.ReLU()), "deep_lift", "overlap"),
        (Pooled(nn.MaxPool2d(2), nn.GELU()), "deep_lift", "GELU|Erf|no layer|two computed"),
        (Pooled(nn.MaxPool2d(2), nn.GELU()), "guided_backprop", "no ReLU"),
        (Pooled(nn.AvgPool2d(2), nn.LeakyReLU()), "lrp", "LeakyReLU"),
    ],
    ids=["overlapping pool", "gelu by deep_lift", "gelu by guided_backprop", "leaky relu by lrp"],
)
def test_what_a_graph_cannot_carry_is_refused_at_load_with_the_reason(module, method, reason) -> None:
    subject = exported(module.eval(), Network(lambda: module, (1, 8, 8), 1))
    assert subject.status.refused[method]
    with pytest.raises(NotExplainable, match=reason):
        ask(subject, {"x": np.zeros((1, 1, 8, 8), np.float32)}, method=method)


def test_products_of_computed_tensors_are_refused(subjects) -> None:
    for method in ("deep_lift", "lrp"):
        assert "multiplies two computed tensors" in refusal(find(method), subjects["product"].status)


# ------------------------------------------------------------------------------------------- nothing stays behind


class Midway(Token):
    """Cancelled at its n-th question."""

    def __init__(self, n: int) -> None:
        super().__init__(60)
        self.left = n

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Cancelled


@pytest.mark.parametrize("method", ["guided_backprop", "deep_lift", "lrp", "grad_cam", "guided_grad_cam"])
def test_a_cancelled_attribution_leaves_no_hook_rule_or_weight_behind(residual, picture, method) -> None:
    _, subject = residual
    twins = (subject.twin, subject.faithful)
    weights = [(p.data_ptr(), p.detach().clone()) for twin in twins for p in twin.parameters()]
    attributes = [set(module.__dict__) for twin in twins for module in twin.modules()]
    asked = {"method": method, "target": 1} | ({"rule": "gamma"} if method == "lrp" else {})
    before = ask(subject, {"x": picture}, **asked).attributions["x"]
    for n in range(1, 8):
        try:
            ask(subject, {"x": picture}, token=Midway(n), **asked)
        except Cancelled:
            continue
    for module in (m for twin in twins for m in twin.modules()):
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
    assert attributes == [set(module.__dict__) for twin in twins for module in twin.modules()]
    assert all(
        p.data_ptr() == at and torch.equal(p, w) for (at, w), p in zip(weights, [p for t in twins for p in t.parameters()], strict=True)
    )
    np.testing.assert_array_equal(before, ask(subject, {"x": picture}, **asked).attributions["x"])


# -------------------------------------------------------------------------------------------------------------- noise


@pytest.mark.parametrize("over", ["saliency", "integrated_gradients", "guided_backprop", "deep_lift"])
def test_noise_is_the_same_whatever_goes_into_a_pass(residual, picture, over) -> None:
    asked = {"method": "smoothgrad", "over": over, "n_samples": 7, "target": 1}
    wide, narrow = (ask(residual[1], {"x": picture}, memory=m, **asked).attributions["x"] for m in (MEMORY, 1))
    np.testing.assert_allclose(wide, narrow, rtol=1e-3, atol=1e-6)
    assert np.abs(wide - ask(residual[1], {"x": picture}, seed=1, **asked).attributions["x"]).max() > 1e-6


def test_smoothgrad_of_a_linear_model_is_its_gradient_and_its_variance_none(subjects) -> None:
    w = np.random.default_rng(0).uniform(-1, 1, (4, 5)).astype(np.float32)
    x = {"x": np.asarray([[1.0, -2.0, 0.3, 4.0, 0.0]], np.float32)}
    np.testing.assert_allclose(ask(subjects["linear"], x, method="smoothgrad", target=1).attributions["x"], w[1], rtol=1e-5)
    np.testing.assert_allclose(ask(subjects["linear"], x, method="vargrad", target=1).attributions["x"], 0, atol=1e-6)


# ---------------------------------------------------------------------------------------------------------- references


def test_both_shap_methods_of_a_linear_model_compare_with_the_references_mean(subjects) -> None:
    rng = np.random.default_rng(1)
    x, rows = rng.standard_normal((1, 5)).astype(np.float32), rng.standard_normal((9, 5)).astype(np.float32)
    w = np.random.default_rng(0).uniform(-1, 1, (4, 5)).astype(np.float32)
    for method in ("gradient_shap", "deep_lift_shap"):
        for memory in (MEMORY, 1):
            found = ask(with_reference(subjects["linear"], x=rows), {"x": x}, memory=memory, method=method, target=3)
            np.testing.assert_allclose(found.attributions["x"], w[3] * (x[0] - rows.mean(0)), rtol=1e-4, atol=1e-5)
            assert found.fields["converged"]
            assert found.fields["parameters"]["baseline"] == {"reference": 9}
    with pytest.raises(NotExplainable, match="reference"):
        ask(subjects["linear"], {"x": x}, method="gradient_shap")
    with pytest.raises(BadParameter, match="shape"):
        ask(with_reference(subjects["linear"], x=rows[:, :3]), {"x": x}, method="gradient_shap")


def test_gradient_shap_stops_when_it_is_good_enough(residual, picture) -> None:
    rows = np.random.default_rng(2).standard_normal((12, 1, 12, 12)).astype(np.float32)
    found = ask(with_reference(residual[1], x=rows), {"x": picture}, method="gradient_shap", tolerance=0.2, max_samples=1000).fields
    assert found["converged"]
    assert found["completeness_error"] <= 0.2
    assert found["parameters"]["n_samples"] == found["rows"] >= 24


def test_gradient_shap_of_a_linear_model_has_no_error_after_two_rounds(subjects) -> None:
    rng = np.random.default_rng(1)
    x, rows = rng.standard_normal((1, 5)).astype(np.float32), rng.standard_normal((20, 5)).astype(np.float32)
    found = ask(with_reference(subjects["linear"], x=rows), {"x": x}, method="gradient_shap", tolerance=1e-4).fields
    assert found["rows"] == found["parameters"]["n_samples"] == 40
    assert found["integration_error"] < 1e-6
    assert found["parameters"]["standard_error"] < 1e-6
    assert found["converged"]


def test_gradient_shap_of_a_product_tells_its_standard_error(subjects) -> None:
    """y = x0 x1 + 3 x2 from the origin: a sample at place u is (u x0 x1, u x0 x1, 3 x2), u of variance 1/12."""
    x, n = np.asarray([[2.0, 3.0, 1.0]], np.float32), 3000
    found = ask(with_reference(subjects["product"], x=np.zeros((1, 3), np.float32)), {"x": x}, method="gradient_shap", n_samples=n)
    each = 6 / np.sqrt(12 * n)  # standard error of the first two elements, which move together
    assert found.fields["parameters"]["standard_error"] == pytest.approx(2 * each, rel=0.05)
    assert found.fields["integration_error"] == pytest.approx(np.sqrt(2) * each / np.sqrt(27), rel=0.05)
    assert abs(found.attributions["x"][0] - 3) < 5 * each
    assert found.fields["parameters"]["n_samples"] == found.fields["rows"] == n


def test_gradient_shap_that_gives_up_says_so(residual, picture) -> None:
    rows = np.random.default_rng(2).standard_normal((12, 1, 12, 12)).astype(np.float32)
    subject = with_reference(residual[1], x=rows)
    found = ask(subject, {"x": picture}, method="gradient_shap", tolerance=1e-5, max_samples=64, quality=True).fields
    assert not found["converged"]
    assert found["parameters"]["n_samples"] == found["rows"] == 60
    assert found["integration_error"] > 4e-5
    assert any("standard error" in warning and "after 60 samples" in warning for warning in found["warnings"])
    assert "more steps or samples" in found["verdict"]


def test_gradient_shap_needs_no_more_than_one_pass_of_memory_and_draws_the_same(residual, picture) -> None:
    rows = np.random.default_rng(2).standard_normal((12, 1, 12, 12)).astype(np.float32)
    subject = with_reference(residual[1], x=rows)
    for more in ({"n_samples": 40}, {"tolerance": 0.2}):
        found = [
            ask(subject, {"x": picture}, memory=memory, method="gradient_shap", noise=0.1, **more).attributions["x"]
            for memory in (MEMORY, 1)
        ]
        np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-5 * np.abs(found[0]).max())


def test_reference_texts_are_padded_to_the_instances_length(subjects) -> None:
    feeds = {"tokens": np.asarray([[3, 7, 5, 12, 5]]), "lengths": np.asarray([5])}
    subject = with_reference(subjects["text"], tokens=np.asarray([[4, 9, 2], [1, 3, 6]]))
    found = ask(subject, feeds, method="gradient_shap", tolerance=0.1)
    assert found.attributions["tokens"].shape == (5,)
    assert "padded" in found.fields["warnings"][0]
    padded = with_reference(subjects["text"], tokens=np.asarray([[4, 9, 2, 0, 0], [1, 3, 6, 0, 0]]))
    np.testing.assert_array_equal(
        found.attributions["tokens"], ask(padded, feeds, method="gradient_shap", tolerance=0.1).attributions["tokens"]
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "can't be read"),
        ({"y": np.zeros((2, 3))}, "expected arrays of the inputs"),
        ({"x": np.zeros((2, 4), np.float32)}, r"expected float32 \[instances, 3\]"),
        ({"x": np.full((2, 3), np.nan, np.float32)}, "NaN"),
        ({"x": np.zeros((0, 3), np.float32)}, "at least one"),
        ({"x": np.asarray([[None]], object)}, "can't be read"),
    ],
    ids=["bytes", "name", "shape", "nan", "empty", "pickle"],
)
def test_a_reference_file_that_does_not_fit_is_a_bad_bundle(tmp_path, content, message) -> None:
    manifest = Manifest(
        name="m",
        version=1,
        task="regression",
        inputs=(Input(name="x", codec="tensor", dtype="float32", shape=(3,)),),
        outputs=(Output(name="y", kind="value", dtype="float32", shape=(1,)),),
        explain=Explain(output="value", reference="r.npz"),
        files={"model.onnx": "0" * 64, "r.npz": "0" * 64},
    )
    if isinstance(content, bytes):
        (tmp_path / "r.npz").write_bytes(content)
    else:
        np.savez(tmp_path / "r.npz", **content)
    with pytest.raises(BadBundle, match=message):
        read(tmp_path, manifest)


# -------------------------------------------------------------------------------------------------------------- layers


def test_an_unknown_layer_lists_what_there_is(residual, picture) -> None:
    default = ask(residual[1], {"x": picture}, method="grad_cam").fields["parameters"]["layer"]
    with pytest.raises(UnknownChoice) as caught:
        ask(residual[1], {"x": picture}, method="grad_cam", layer="nowhere")
    assert default in str(caught.value)


class OneDimensional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.relu, self.head = nn.Conv1d(1, 4, 5, 2), nn.ReLU(), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.relu(self.conv(x)).mean(2))


def test_grad_cam_of_a_one_dimensional_convolution() -> None:
    """By hand: activations weighted by the mean of their gradients, summed over channels, enlarged to the nearest."""
    module = OneDimensional()
    x = torch.randn(1, 1, 21, generator=torch.Generator().manual_seed(0))
    maps = module.conv(x).detach().requires_grad_()
    module.head(module.relu(maps).mean(2))[0, 1].backward()
    cam = (maps.grad.mean(2, keepdim=True) * maps.detach()).sum(1, keepdim=True)
    wanted = torch.nn.functional.interpolate(cam, 21)[0].numpy()
    found = ask(exported(module, Network(OneDimensional, (1, 21), 1)), {"x": x.numpy()}, method="grad_cam", target=1, relu=False)
    np.testing.assert_allclose(found.attributions["x"], wanted, rtol=1e-4, atol=1e-6)

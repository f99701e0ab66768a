"""Methods by perturbation against closed forms, against the definitions, and against Captum on the original module."""

from __future__ import annotations

import dataclasses
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation, Occlusion, ShapleyValueSampling
from onnx import TensorProto as T
from onnx import helper
from perturbed import ask, graph, outputs_of, shapley_by_enumeration, subject_of

from service.errors import BadParameter, DeadlineExceeded, NotExplainable, UnknownChoice
from service.explain.cancel import Cancelled, Token
from service.explain.methods import METHODS
from service.manifest import Batching, ImagePolicy, Input

EVERY = ("occlusion", "feature_ablation", "shapley_value_sampling", "kernel_shap", "lime")
SAMPLED = ("shapley_value_sampling", "kernel_shap", "lime")
X = np.asarray([[1.0, -2.0, 0.3, 4.0, 0.0]], np.float32)
W = np.random.default_rng(0).uniform(-1, 1, (4, 5)).astype(np.float32)  # of the bundle `linear`


# --------------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("method", [*EVERY[:4], "lime"])
def test_of_a_linear_model_every_method_finds_weight_times_difference(subjects, method) -> None:
    more: dict[str, Any] = {"alpha": 1e-6} if method == "lime" else {}
    (found,) = ask(subjects["linear"], {"x": X}, method=method, target=2, **more)
    np.testing.assert_allclose(found.attributions["x"], W[2] * (X[0] - 0.5), rtol=1e-3, atol=1e-5)
    assert found.fields["parameters"]["baseline"] == 0.5
    assert found.fields["converged"]
    assert (found.fields["completeness_error"] is not None) == ("completeness" in METHODS[method].promises)


def test_of_a_product_the_shapley_values_are_halves(subjects) -> None:
    x = np.asarray([[2.0, -3.0, 1.5]], np.float32)
    for method in ("shapley_value_sampling", "kernel_shap"):
        (found,) = ask(subjects["product"], {"x": x}, method=method)
        np.testing.assert_allclose(found.attributions["x"], [-3, -3, 4.5], atol=1e-5)
        assert found.fields["parameters"]["exact"]
        assert found.fields["completeness_error"] < 1e-6
    (ablated,) = ask(subjects["product"], {"x": x}, method="feature_ablation")
    np.testing.assert_allclose(ablated.attributions["x"], [-6, -6, 4.5], atol=1e-5)
    assert ablated.fields["completeness_error"] is None


def test_lime_says_how_well_its_line_fits(subjects) -> None:
    (line,) = ask(subjects["linear"], {"x": X}, method="lime", target=2, alpha=1e-6)
    assert line.fields["fit"] == pytest.approx(1, abs=1e-4)
    assert not line.fields["warnings"]
    x = np.asarray([[2.0, -3.0, 0.0]], np.float32)  # the product of two: two slopes of half of it tell two thirds of its variance
    (product,) = ask(subjects["product"], {"x": x}, method="lime", n_samples=4000, kernel_width=1e3, alpha=1e-6)
    assert product.fields["fit"] == pytest.approx(2 / 3, abs=0.03)


@pytest.mark.parametrize("method", EVERY)
def test_what_is_as_the_baseline_has_no_part_in_it(subjects, images, method) -> None:
    """Shapley's axiom of the dummy, which draws alone keep only roughly."""
    image = images[:1].copy()
    image[:, :, :, 6:] = 0  # black already
    asked = {"method": method} | ({"features": "grid", "n_features": 36, "n_samples": 40} if method in SAMPLED else {})
    (found,) = ask(subjects["cnn"], {"image": image}, **asked)
    right = found.attributions["image"][0, :, 6:]
    assert not (right[:, 3:] if method == "occlusion" else right).any()
    assert found.attributions["image"][0, :, :6].any()
    (nothing,) = ask(subjects["cnn"], {"image": np.zeros_like(image)}, **asked)
    assert not nothing.attributions["image"].any()
    assert nothing.fields["baseline_output"] == nothing.fields["instance_output"]
    assert nothing.fields["converged"]


def _on_squares(bundles, image: np.ndarray, target: int):
    """F of the bundle `cnn` for sets of four squares, by ONNX Runtime."""

    def value(present: np.ndarray) -> float:
        kept = np.kron(present.reshape(2, 2), np.ones((6, 6)))
        return float(outputs_of(bundles / "cnn" / "1", {"image": (image * kept)[None].astype(np.float32)})[0, target])

    return value


def test_shapley_values_are_those_of_the_definition(subjects, bundles, images) -> None:
    expected = shapley_by_enumeration(_on_squares(bundles, images[0], 3), 4)
    asked = {"target": 3, "features": "grid", "n_features": 4}
    for method in ("kernel_shap", "shapley_value_sampling"):
        (found,) = ask(subjects["cnn"], {"image": images[:1]}, method=method, **asked)
        squares = found.attributions["image"].reshape(2, 6, 2, 6).sum((1, 3)).reshape(-1)
        np.testing.assert_allclose(squares, expected, atol=1e-4 * np.abs(expected).max())
    (drawn,) = ask(subjects["cnn"], {"image": images[:1]}, method="shapley_value_sampling", n_samples=20, **asked)
    squares = drawn.attributions["image"].reshape(2, 6, 2, 6).sum((1, 3)).reshape(-1)
    assert not drawn.fields["parameters"]["exact"]
    assert np.abs(squares - expected).max() <= 4 * drawn.fields["standard_error"]
    assert drawn.fields["completeness_error"] < 1e-5


def test_kernel_shap_on_draws_comes_near_and_stays_complete(subjects, bundles, images) -> None:
    asked = {"target": 3, "features": "grid", "n_features": 9}
    (exact,) = ask(subjects["cnn"], {"image": images[:1]}, method="kernel_shap", n_samples=512, **asked)
    (drawn,) = ask(subjects["cnn"], {"image": images[:1]}, method="kernel_shap", n_samples=400, **asked)
    a, b = exact.attributions["image"], drawn.attributions["image"]
    assert np.linalg.norm(a - b) < 0.2 * np.linalg.norm(a)
    assert drawn.fields["completeness_error"] < 1e-5


# ----------------------------------------------------------------------------------------- Captum on the original module


def test_ablation_and_occlusion_are_captums(subjects, cnn_module, images) -> None:
    mask = torch.from_numpy(np.kron(np.arange(9).reshape(3, 3), np.ones((4, 4), int)))[None]  # (1, 12, 12)
    ablated = FeatureAblation(cnn_module).attribute(torch.from_numpy(images), target=1, feature_mask=mask).numpy()
    found = ask(subjects["cnn"], {"image": images}, method="feature_ablation", target=1, features="grid", n_features=9)
    for mine, theirs in zip(found, ablated, strict=True):
        np.testing.assert_allclose(mine.attributions["image"] * 16, theirs, atol=1e-5 * np.abs(theirs).max())  # a feature's is divided
    occluded = Occlusion(cnn_module).attribute(torch.from_numpy(images), (1, 4, 3), (1, 2, 3), target=1).numpy()
    found = ask(subjects["cnn"], {"image": images}, method="occlusion", target=1, window=[1, 4, 3], stride=[1, 2, 3])
    for mine, theirs in zip(found, occluded, strict=True):
        np.testing.assert_allclose(mine.attributions["image"], theirs, atol=1e-5 * np.abs(theirs).max())


def test_shapley_sampling_is_captums_for_the_same_orders(subjects, cnn_module, images) -> None:
    mask = torch.from_numpy(np.kron(np.arange(9).reshape(3, 3), np.ones((4, 4), int)))[None]
    rng = np.random.default_rng(7)
    orders = [rng.permutation(9).tolist() for _ in range(6)]
    captum = ShapleyValueSampling(cnn_module)
    captum.permutation_generator = lambda *_: iter(orders)
    theirs = captum.attribute(torch.from_numpy(images[:1]), target=1, feature_mask=mask, n_samples=6).detach().numpy()[0]
    (found,) = ask(
        subjects["cnn"],
        {"image": images[:1]},
        method="shapley_value_sampling",
        target=1,
        features="grid",
        n_features=9,
        n_samples=6,
        seed=7,
    )
    np.testing.assert_allclose(found.attributions["image"] * 16, theirs, atol=1e-5 * np.abs(theirs).max())


# ------------------------------------------------------------------------------------------------- rows, memory and time


@pytest.mark.parametrize("method", [*EVERY])
def test_the_rows_of_a_pass_change_no_number(subjects, images, method) -> None:
    asked = {"method": method, "n_samples": {"shapley_value_sampling": 3}.get(method, 150)} if method in SAMPLED else {"method": method}
    asked |= {"features": "grid", "n_features": 36} if method != "occlusion" else {}
    wide, narrow = (ask(subjects["cnn"], {"image": images[:1]}, memory=m, **asked)[0] for m in (64 << 20, 1))
    np.testing.assert_allclose(wide.attributions["image"], narrow.attributions["image"], atol=1e-5)
    assert wide.fields["rows"] == narrow.fields["rows"]


@pytest.mark.parametrize("method", SAMPLED)
def test_draws_are_by_the_seed(subjects, images, method) -> None:
    first, again, other = (
        ask(subjects["cnn"], {"image": images[:1]}, method=method, seed=seed, features="grid", n_features=16, n_samples=60)[0]
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.attributions["image"], again.attributions["image"])
    assert (first.attributions["image"] != other.attributions["image"]).any()


def test_each_instance_of_a_batch_has_its_target(subjects, images) -> None:
    both = ask(subjects["cnn"], {"image": images[:2]}, method="feature_ablation", targets=[4, "7"])
    for i, target in enumerate((4, 7)):
        (alone,) = ask(subjects["cnn"], {"image": images[i : i + 1]}, method="feature_ablation", target=target)
        assert both[i].fields["target_index"] == target
        np.testing.assert_allclose(both[i].attributions["image"], alone.attributions["image"], atol=1e-5)


class Watched:
    """A served model that notes how many rows each pass has, and takes its time."""

    def __init__(self, served: Any, seconds: float = 0.0) -> None:
        self.served, self.seconds, self.passes = served, seconds, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.served, name)

    def run(self, feeds: Any) -> Any:
        self.passes.append(len(next(iter(feeds.values()))))
        time.sleep(self.seconds)
        return self.served.run(feeds)


def test_memory_is_that_of_a_pass_however_many_samples(tmp_path) -> None:
    """200 masked pictures would be 157 MB."""
    nodes = [helper.make_node("ReduceMean", ["x"], ["m"], axes=[1, 2], keepdims=0), helper.make_node("MatMul", ["m", "w"], ["y"])]
    model = graph(nodes, [("x", T.FLOAT, ["n", 256, 256, 3])], [("y", T.FLOAT, ["n", 1])], w=np.asarray([[1.0], [2.0], [-1.0]], np.float32))
    policy = ImagePolicy(height=256, width=256, channels=3, layout="NHWC")
    image = Input(name="x", codec="image", dtype="float32", shape=(256, 256, 3), range=(0, 255), image=policy)
    subject = subject_of(tmp_path / "1", model, [image])
    subject = dataclasses.replace(subject, served=Watched(subject.served))
    x = np.random.default_rng(0).uniform(0, 255, (1, 256, 256, 3)).astype(np.float32)
    ask(subject, {"x": x}, method="feature_ablation", features="grid", n_features=4)  # imports
    tracemalloc.start()
    (found,) = ask(subject, {"x": x}, method="kernel_shap", features="grid", n_features=16, n_samples=200, memory=8 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(subject.served.passes) * x.nbytes * 2 <= 8 << 20
    assert peak < 32 << 20
    assert found.fields["rows"] >= 200


@pytest.mark.parametrize("method", SAMPLED)
def test_when_the_time_is_up_the_samples_there_are_make_an_answer(subjects, images, method) -> None:
    subject = subjects["cnn"]
    slow = dataclasses.replace(subject, served=Watched(subject.served, 0.02))
    asked = {"method": method, "features": "grid", "n_features": 16, "n_samples": 10_000}
    (found,) = ask(slow, {"image": images[:1]}, token=Token(1.0), timeout=1.0, **asked)
    assert not found.fields["converged"]
    assert any("time was up" in warning for warning in found.fields["warnings"])
    assert (16 if method != "shapley_value_sampling" else 1) <= found.fields["parameters"]["n_samples"] < 10_000
    if "completeness" in METHODS[method].promises:
        assert found.fields["completeness_error"] < 1e-5


def test_no_answer_in_time_and_nobody_waiting(subjects, images) -> None:
    subject = subjects["cnn"]
    slow = dataclasses.replace(subject, served=Watched(subject.served, 0.05))
    for method in EVERY:
        with pytest.raises(DeadlineExceeded):
            ask(slow, {"image": images[:1]}, token=Token(0.08), memory=1, timeout=0.08, method=method)
    gone = Token(60)
    gone.cancel()
    with pytest.raises(Cancelled):
        ask(subject, {"image": images[:1]}, token=gone, method="lime")


def test_rows_that_depend_on_each_other_are_asked_one_by_one(tmp_path) -> None:
    """y = x . w minus the batch's mean of it, plus x . w: alone just x . w."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["s"]),
        helper.make_node("ReduceMean", ["s"], ["m"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["s", "m"], ["d"]),
        helper.make_node("Add", ["s", "d"], ["y"]),
    ]
    w = np.asarray([[1.0], [2.0], [-3.0]], np.float32)
    model = graph(nodes, [("x", T.FLOAT, ["n", 3])], [("y", T.FLOAT, ["n", 1])], w=w)
    x = Input(name="x", codec="tensor", dtype="float32", shape=(3,))
    subject = subject_of(tmp_path / "1", model, [x], batching=Batching(rows_independent=False))
    (found,) = ask(subject, {"x": np.ones((1, 3), np.float32)}, method="feature_ablation")
    np.testing.assert_allclose(found.attributions["x"], w[:, 0], rtol=1e-6)


def test_a_graph_of_a_fixed_batch_is_filled_up(tmp_path) -> None:
    w = np.asarray([[1.0], [2.0], [-3.0]], np.float32)
    model = graph([helper.make_node("MatMul", ["x", "w"], ["y"])], [("x", T.FLOAT, [4, 3])], [("y", T.FLOAT, [4, 1])], w=w)
    subject = subject_of(tmp_path / "1", model, [Input(name="x", codec="tensor", dtype="float32", shape=(3,))])
    (found,) = ask(subject, {"x": np.ones((1, 3), np.float32)}, method="shapley_value_sampling")
    np.testing.assert_allclose(found.attributions["x"], w[:, 0], rtol=1e-6)


# ---------------------------------------------------------------------------------------------------------- permutation


def test_permutation_compares_with_the_reference_sets_values(subjects) -> None:
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((7, 3)).astype(np.float32)
    x = np.asarray([[2.0, -3.0, 1.5]], np.float32)
    (found,) = ask(subjects["product"], {"x": x, "reference.x": rows}, method="feature_permutation")
    mean = rows.mean(0)
    expected = [x[0, 1] * (x[0, 0] - mean[0]), x[0, 0] * (x[0, 1] - mean[1]), 3 * (x[0, 2] - mean[2])]
    np.testing.assert_allclose(found.attributions["x"], expected, rtol=1e-4, atol=1e-5)
    (one,) = ask(subjects["product"], {"x": x, "reference.x": rows[:1]}, method="feature_permutation")
    np.testing.assert_allclose(one.attributions["x"][2], 3 * (x[0, 2] - rows[0, 2]), rtol=1e-5)
    (few,) = ask(subjects["product"], {"x": x, "reference.x": rows}, method="feature_permutation", n_samples=3)
    assert few.fields["steps"] == 3
    with pytest.raises(NotExplainable, match="reference"):
        ask(subjects["product"], {"x": x}, method="feature_permutation")


# -------------------------------------------------------------------------------------------------------- wrong requests


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"method": "occlusion", "window": 13}, BadParameter, "larger than input 'image'"),
        ({"method": "occlusion", "window": [3, 3]}, BadParameter, "expected 3"),
        ({"method": "occlusion", "window": 2, "stride": 3}, BadParameter, "gaps"),
        ({"method": "occlusion", "window": 0}, BadParameter, "window"),
        ({"method": "occlusion", "window": {"picture": 2}}, UnknownChoice, "image"),
        ({"method": "feature_ablation", "features": "words"}, UnknownChoice, "elements, grid"),
        ({"method": "feature_ablation", "features": {"picture": "grid"}}, UnknownChoice, "image"),
        ({"method": "feature_ablation", "n_features": 0}, BadParameter, "n_features"),
        ({"method": "kernel_shap", "n_samples": 20}, BadParameter, "20 samples can't tell"),
        ({"method": "lime", "n_samples": 10}, BadParameter, "10 samples can't tell"),
        ({"method": "kernel_shap", "n_samples": 30_000}, BadParameter, "30000 samples of 144 features"),
        ({"method": "lime", "kernel_width": 0}, BadParameter, "kernel_width"),
        ({"method": "xrai"}, NotExplainable, "pictures"),
        ({"method": "feature_ablation", "baseline": "missing"}, BadParameter, "no missing values"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_said(subjects, images, asked, error, words) -> None:
    with pytest.raises(error, match=words):
        ask(subjects["cnn"], {"image": images[:1]}, **asked)

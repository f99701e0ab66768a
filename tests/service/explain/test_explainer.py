"""Explanations against closed forms, against Captum on the original module, and against ONNX Runtime's own outputs."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients, Saliency

from service.errors import BadParameter, DeadlineExceeded, NotExplainable, ParityRefused
from service.explain.answer import Explanation
from service.explain.cancel import Cancelled, Token
from service.explain.explainer import explain
from service.explain.methods import resolve
from service.explain.subject import Subject
from service.explain.twin import mixed
from service.explain.twin.mixed import Mixed

MEMORY = 64 << 20


def ask(
    subject: Subject, tensors: dict[str, np.ndarray], token: Token | None = None, memory: int = MEMORY, **parameters: Any
) -> list[Explanation]:
    request = resolve(subject.manifest, parameters)
    return list(explain(subject, request, tensors, token or Token(60), memory).explanations)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def served_by_hand(subject: Subject, value: float) -> np.ndarray:
    """The scores (classes,) of a picture of one grey."""
    (info,) = subject.served.inputs
    sizes = [size for size in info.shape if size is not None]
    return subject.served.run({info.name: np.full((1, *sizes), value, np.float32)})[subject.outputs[0]][0]


def served(bundles, name: str, feeds: dict[str, np.ndarray]) -> np.ndarray:
    return ort.InferenceSession(str(bundles / name / "1" / "model.onnx")).run(None, feeds)[0]


# ------------------------------------------------------------------------------------------------------- closed forms


def test_product_has_the_integral_of_the_textbook(subjects) -> None:
    x = np.asarray([[2.0, -3.0, 1.5], [0.5, 4.0, -1.0]], np.float32)
    for row, found in zip(x, ask(subjects["product"], {"x": x}), strict=True):
        half = row[0] * row[1] / 2
        np.testing.assert_allclose(found.attributions["x"], [half, half, 3 * row[2]], rtol=1e-5)
        assert found.fields["instance_output"] == pytest.approx(row[0] * row[1] + 3 * row[2], rel=1e-6)
        assert found.fields["baseline_output"] == 0
        assert found.fields["converged"]
        assert found.fields["target"] == {"index": 0}
        assert found.fields["explained"] == "value"


def test_linear_is_weight_times_difference_from_the_manifests_baseline(subjects, bundles) -> None:
    x = np.asarray([[1.0, -2.0, 0.3, 4.0, 0.0]], np.float32)
    w = np.random.default_rng(0).uniform(-1, 1, (4, 5)).astype(np.float32)
    scores = served(bundles, "linear", {"x": x})[0]
    (found,) = ask(subjects["linear"], {"x": x})
    best = int(scores.argmax())
    np.testing.assert_allclose(found.attributions["x"], w[best] * (x[0] - 0.5), rtol=1e-4, atol=1e-6)
    assert found.fields["predicted_index"] == found.fields["target_index"] == best
    assert found.fields["parameters"]["baseline"] == 0.5
    assert found.fields["instance_output"] == pytest.approx(float(scores[best]), rel=1e-6)


@pytest.mark.parametrize(
    ("baseline", "value"), [("zero", 0.0), (2, 2.0), ("-1.5", -1.5), ([1, 2, 3, 4, 5], np.arange(1.0, 6)), ({"x": 0.25}, 0.25)], ids=str
)
def test_a_requests_baseline_takes_the_place_of_the_manifests(subjects, baseline, value) -> None:
    x = np.asarray([[1.0, -2.0, 0.3, 4.0, 0.0]], np.float32)
    w = np.random.default_rng(0).uniform(-1, 1, (4, 5)).astype(np.float32)
    (found,) = ask(subjects["linear"], {"x": x}, baseline=baseline, target=2)
    np.testing.assert_allclose(found.attributions["x"], w[2] * (x[0] - value), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("baseline", ["mean", "token", "nowhere", [1, 2], {"y": 0}, [1, 2, 3, 4, "a"], True], ids=str)
def test_a_baseline_that_does_not_fit_is_an_error(subjects, baseline) -> None:
    with pytest.raises(BadParameter):
        ask(subjects["linear"], {"x": np.zeros((1, 5), np.float32)}, baseline=baseline)


def test_generator_of_two_inputs_attributes_to_both(subjects, bundles) -> None:
    """F = sum of (latent @ wl) * (onehot @ wc): bilinear, so the integral of each is known."""
    latent, label = np.asarray([[1.0, -0.5, 2.0, 0.3]], np.float32), np.asarray([2])
    wl = np.random.default_rng(6).uniform(-1, 1, (4, 24)).astype(np.float32)
    wc = np.random.default_rng(7).uniform(-1, 1, (3, 24)).astype(np.float32)
    region = np.zeros((4, 6), np.float32)
    region[1:3, 2:5] = 1
    onehot, start = np.eye(3)[2], np.full(3, 1 / 3)
    k = wl @ np.diag(region.reshape(-1)) @ wc.T  # (latent, class)
    # The path is (a x, start + a (onehot - start)) for a from 0 to 1.
    to_latent = latent[0] * (k @ (start + (onehot - start) / 2))
    to_class = (onehot - start) * (k.T @ latent[0]) / 2
    (found,) = ask(subjects["generator"], {"latent": latent, "class": label}, target={"region": [2, 1, 5, 3]}, tolerance=1e-4)
    np.testing.assert_allclose(found.attributions["latent"], to_latent, atol=1e-4)
    np.testing.assert_allclose(found.attributions["class"], to_class.sum(), atol=1e-4)
    assert found.attributions["class"].shape == ()
    image = served(bundles, "generator", {"latent": latent, "class": label})[0, 0]
    assert found.fields["instance_output"] == pytest.approx(float((image * region).sum()), rel=1e-5)
    assert found.fields["target"] == {"region": [2, 1, 5, 3]}
    assert found.fields["parameters"]["baseline"] == {"latent": "zero", "class": pytest.approx(1 / 3)}


def test_a_generators_default_is_the_whole_image(subjects, bundles) -> None:
    feeds = {"latent": np.asarray([[1.0, -0.5, 2.0, 0.3]], np.float32), "class": np.asarray([1])}
    (found,) = ask(subjects["generator"], feeds)
    assert found.fields["instance_output"] == pytest.approx(float(served(bundles, "generator", feeds).sum()), rel=1e-5)
    assert found.fields["target"]["region"] == [0, 0, 6, 4]


# --------------------------------------------------------------------------------------------- Captum on the original


def test_fixed_steps_are_captums_own(subjects, cnn_module, images) -> None:
    targets = [3, 1, 4, 1, 5, 9]
    found = ask(subjects["cnn"], {"image": images}, steps=50, targets=targets)
    expected = IntegratedGradients(cnn_module).attribute(torch.from_numpy(images), target=targets, n_steps=50).numpy()
    for mine, theirs in zip(found, expected, strict=True):
        assert relative(mine.attributions["image"], theirs) < 1e-4
        assert mine.fields["steps"] == mine.fields["rows"] == 50
        assert mine.fields["parameters"]["steps"] == 50


def test_how_near_to_the_integral_it_shall_be_can_be_asked_for(subjects, cnn_module, images) -> None:
    expected = IntegratedGradients(cnn_module).attribute(torch.from_numpy(images), target=7, n_steps=1000).numpy()
    rows, distances = {}, {}
    for asked in (0.02, None, 1.0):
        parameters = {} if asked is None else {"integration_tolerance": asked}
        found = ask(subjects["cnn"], {"image": images}, target="7", max_steps=1000, **parameters)
        assert all(one.fields["converged"] and one.fields["completeness_error"] <= 0.01 for one in found)
        assert all(one.fields["integration_error"] <= (asked or 0.1) for one in found)
        assert {one.fields["parameters"]["integration_tolerance"] for one in found} == {asked or 0.1}
        rows[asked] = sum(one.fields["rows"] for one in found)
        distances[asked] = np.mean([relative(one.attributions["image"], e) for one, e in zip(found, expected, strict=True)])
    assert rows[0.02] > rows[None] >= rows[1.0]
    assert distances[0.02] < distances[1.0]


def rounded(subject: Subject, by: float = 1.0) -> Subject:
    """With gradients in mixed precision, as a machine has it where that is faster; `by` spoils it."""
    twin = mixed(subject.twin)
    assert twin is not None
    for module in twin.modules():
        if isinstance(module, Mixed):
            module.rounded *= by
    return dataclasses.replace(subject, mixed=twin, segments={})


def test_mixed_precision_reaches_the_tolerance_and_says_so(subjects, cnn_module, images) -> None:
    expected = IntegratedGradients(cnn_module).attribute(torch.from_numpy(images), target=7, n_steps=1000).numpy()
    subject = rounded(subjects["cnn"])
    for mine, theirs in zip(ask(subject, {"image": images}, target="7"), expected, strict=True):
        assert mine.fields["precision"] == "bfloat16"
        assert mine.fields["converged"]
        assert mine.fields["completeness_error"] <= 0.01
        assert mine.fields["parity_error"] <= 1e-4
        assert relative(mine.attributions["image"], theirs) <= 2 * mine.fields["integration_error"] <= 0.2
    (exact,) = ask(subject, {"image": images[:1]}, target="7", precision="float32")
    (without,) = ask(subjects["cnn"], {"image": images[:1]}, target="7")
    assert exact.fields["precision"] == without.fields["precision"] == "float32"
    np.testing.assert_array_equal(exact.attributions["image"], without.attributions["image"])
    (tight,) = ask(subject, {"image": images[:1]}, target="7", integration_tolerance=0.01, max_steps=1000)
    assert tight.fields["precision"] == "float32"  # its rounding alone would be too much
    rows = int(without.fields["rows"])
    for least, precision in ((rows + 1, "bfloat16"), (rows + 2, "float32")):  # the instance has a row beside the pieces'
        (found,) = ask(dataclasses.replace(subject, mixed_from=least), {"image": images[:1]}, target="7")
        assert found.fields["precision"] == precision


def test_mixed_precision_that_is_too_far_off_is_done_again_in_float32(subjects, images) -> None:
    (found,) = ask(rounded(subjects["cnn"], by=1.1), {"image": images[:1]}, target="7")
    (wanted,) = ask(subjects["cnn"], {"image": images[:1]}, target="7")
    assert found.fields["precision"] == "float32"
    np.testing.assert_array_equal(found.attributions["image"], wanted.attributions["image"])
    assert found.fields["integration_error"] == wanted.fields["integration_error"]


def test_a_filled_baselines_output_is_asked_once_for_each_target_and_number(subjects, images, monkeypatch) -> None:
    subject = subjects["cnn"]
    subject.baseline_outputs.clear()
    runs = []
    tail = subject.served.tail
    monkeypatch.setattr(type(subject.served), "tail", lambda self, feeds: runs.append(len(feeds)) or tail(feeds))
    wanted = [served_by_hand(subject, value)[target] for value, target in ((0.0, 7), (0.0, 3), (0.5, 7))]
    runs.clear()
    for _ in range(2):
        for (value, target), output in zip(((0.0, "7"), (0.0, "3"), (0.5, "7")), wanted, strict=True):
            (found,) = ask(subject, {"image": images[:1]}, target=target, baseline=value, method="integrated_gradients", steps=3)
            assert found.fields["baseline_output"] == pytest.approx(output, rel=1e-5)
    assert len(runs) == 3


def test_integrated_to_a_tolerance_is_the_same_integral(subjects, cnn_module, images) -> None:
    found = ask(subjects["cnn"], {"image": images}, target="7", tolerance=1e-3, max_steps=1000)
    expected = IntegratedGradients(cnn_module).attribute(torch.from_numpy(images), target=7, n_steps=1000).numpy()
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.fields["completeness_error"] <= 1e-3
        assert relative(mine.attributions["image"], theirs) < 0.05


def test_probability_is_explained_as_captum_explains_it(subjects, cnn_module, images) -> None:
    found = ask(subjects["cnn"], {"image": images}, target=7, steps=64, explained="probability")
    model = torch.nn.Sequential(cnn_module, torch.nn.Softmax(1))
    expected = IntegratedGradients(model).attribute(torch.from_numpy(images), target=7, n_steps=64).numpy()
    for mine, theirs in zip(found, expected, strict=True):
        assert relative(mine.attributions["image"], theirs) < 1e-3
        assert mine.fields["explained"] == "probability"


@pytest.mark.parametrize(("parameters", "absolute"), [({}, True), ({"absolute": False}, False)])
def test_saliency_is_captums(subjects, cnn_module, images, parameters, absolute) -> None:
    found = ask(subjects["cnn"], {"image": images}, method="saliency", target=2, **parameters)
    expected = Saliency(cnn_module).attribute(torch.from_numpy(images), target=2, abs=absolute).numpy()
    for mine, theirs in zip(found, expected, strict=True):
        assert relative(mine.attributions["image"], theirs) < 1e-4
        assert mine.fields["completeness_error"] is None
        assert mine.fields["converged"]


def test_input_x_gradient_is_captums(subjects, cnn_module, images) -> None:
    found = ask(subjects["cnn"], {"image": images}, method="input_x_gradient", target=2)
    expected = InputXGradient(cnn_module).attribute(torch.from_numpy(images), target=2).detach().numpy()
    for mine, theirs in zip(found, expected, strict=True):
        assert relative(mine.attributions["image"], theirs) < 1e-4


# ---------------------------------------------------------------------------------------------------------- the figures


def test_the_figures_are_those_of_the_contract(subjects, bundles, images) -> None:
    logits = served(bundles, "cnn", {"image": images})
    black = served(bundles, "cnn", {"image": np.zeros_like(images[:1])})[0]
    for scores, found in zip(logits, ask(subjects["cnn"], {"image": images}), strict=True):
        f = found.fields
        best = int(scores.argmax())
        assert f["target"] == {"label": str(best), "index": best}
        assert f["instance_output"] == pytest.approx(float(scores[best]), rel=1e-6)
        assert f["baseline_output"] == pytest.approx(float(black[best]), rel=1e-6)
        delta = float(found.attributions["image"].astype(np.float64).sum()) - (f["instance_output"] - f["baseline_output"])
        assert f["convergence_delta"] == pytest.approx(delta, abs=1e-4)
        scale = max(abs(f["instance_output"] - f["baseline_output"]), 0.01 * max(1, abs(f["instance_output"])))
        assert f["completeness_error"] == pytest.approx(abs(f["convergence_delta"]) / scale)
        assert f["completeness_error"] <= 0.01
        assert 0 <= f["parity_error"] <= 1e-4
        assert found.attributions["image"].dtype == np.float32
        assert found.attributions["image"].shape == (1, 12, 12)


def test_a_tolerance_out_of_reach_gives_the_best_there_is(subjects, images) -> None:
    (found,) = ask(subjects["cnn"], {"image": images[:1]}, tolerance=1e-9, max_steps=32)
    assert not found.fields["converged"]
    assert found.fields["steps"] <= 32
    assert "tolerance" in found.fields["warnings"][0]
    assert found.attributions is not None


def test_memory_bounds_the_rows_of_a_pass_and_nothing_else(subjects, images) -> None:
    (wide,), (narrow,) = (ask(subjects["cnn"], {"image": images[:1]}, memory=m, tolerance=1e-2) for m in (MEMORY, 1))
    np.testing.assert_allclose(wide.attributions["image"], narrow.attributions["image"], atol=1e-5)


# -------------------------------------------------------------------------------------------------------------- targets


@pytest.mark.parametrize(("asked", "index"), [("a", 0), (1, 1), ("2", 2), ("3", 3), ([2], 2)], ids=str)
def test_a_target_is_a_label_or_an_index(subjects, asked, index) -> None:
    """The label "3" is class 3's in this model; "2" is no label, so an index."""
    (found,) = ask(subjects["linear"], {"x": np.ones((1, 5), np.float32)}, target=asked)
    assert found.fields["target_index"] == index


@pytest.mark.parametrize("asked", ["e", 4, -1, [1, 2], {"region": [0, 0, 1, 1]}], ids=str)
def test_a_target_that_does_not_exist_is_an_error(subjects, asked) -> None:
    with pytest.raises(BadParameter, match="target"):
        ask(subjects["linear"], {"x": np.ones((1, 5), np.float32)}, target=asked)


def test_a_single_logit_explains_its_own_sign(subjects) -> None:
    x = np.asarray([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], np.float32)  # scores 1 and -2
    yes, no = ask(subjects["single"], {"x": x})
    assert (yes.fields["target"], no.fields["target"]) == ({"label": "yes", "index": 1}, {"label": "no", "index": 0})
    assert (yes.fields["instance_output"], no.fields["instance_output"]) == (1.0, 2.0)
    np.testing.assert_allclose(no.attributions["x"], [0, 2, 0], atol=1e-6)
    (as_no,) = ask(subjects["single"], {"x": x[:1]}, target="no", explained="probability")
    assert as_no.fields["instance_output"] == pytest.approx(1 / (1 + math.e), rel=1e-5)
    assert as_no.attributions["x"][0] < 0


def test_a_model_that_ends_in_its_softmax_is_explained_before_it(subjects, bundles) -> None:
    x = np.asarray([[1.0, -2.0, 0.3, 4.0, 0.0]], np.float32)
    w = np.random.default_rng(0).uniform(-1, 1, (4, 5)).astype(np.float32)
    logit, probability = (ask(subjects["activated"], {"x": x}, target="c", explained=e)[0] for e in ("logit", "probability"))
    np.testing.assert_allclose(logit.attributions["x"], w[2] * x[0], rtol=1e-4, atol=1e-6)
    assert probability.fields["instance_output"] == pytest.approx(float(served(bundles, "activated", {"x": x})[0, 2]), rel=1e-5)


def test_explaining_what_an_output_does_not_have_is_an_error(subjects) -> None:
    with pytest.raises(BadParameter, match="explained"):
        ask(subjects["product"], {"x": np.zeros((1, 3), np.float32)}, explained="probability")


# ----------------------------------------------------------------------------------------------------------------- text


def test_text_gets_one_number_a_token_from_the_pad_baseline(subjects, bundles) -> None:
    tokens, lengths = np.asarray([[3, 7, 0, 12, 5]]), np.asarray([5])
    (found,) = ask(subjects["text"], {"tokens": tokens, "lengths": lengths}, tolerance=1e-3)
    f = found.fields
    assert found.attributions["tokens"].shape == (5,)
    assert found.attributions["tokens"][2] == 0  # a pad token is its own baseline
    for name, feeds in (("instance_output", tokens), ("baseline_output", np.zeros_like(tokens))):
        scores = served(bundles, "text", {"tokens": feeds, "lengths": lengths})[0]
        assert f[name] == pytest.approx(float(scores[f["target_index"]]), abs=1e-6)
    assert float(found.attributions["tokens"].sum()) == pytest.approx(f["instance_output"] - f["baseline_output"], rel=2e-3, abs=1e-5)
    assert f["parameters"]["baseline"] == {"token": 0}


def test_texts_of_a_batch_are_explained_as_each_alone(subjects) -> None:
    tokens = np.asarray([[3, 7, 2], [5, 5, 9]])
    both = ask(subjects["text"], {"tokens": tokens, "lengths": np.asarray([3, 3])})
    for row, found in zip(tokens, both, strict=True):
        (alone,) = ask(subjects["text"], {"tokens": row[None], "lengths": np.asarray([3])})
        np.testing.assert_allclose(found.attributions["tokens"], alone.attributions["tokens"], atol=1e-6)


# ---------------------------------------------------------------------------------------------- trust, time, hanging up


def test_a_twin_that_differs_is_refused(subjects, images) -> None:
    subject = subjects["cnn"]
    refused = dataclasses.replace(subject, status=subject.status.model_copy(update={"parity_error": 0.3}))
    with pytest.raises(ParityRefused, match=r"0\.3"):
        ask(refused, {"image": images[:1]})


def test_an_instance_on_which_the_twin_differs_has_no_attributions(subjects, images) -> None:
    subject = dataclasses.replace(subjects["cnn"], graph=None)  # a gradient graph's outputs don't differ at all
    strict = dataclasses.replace(subject, status=subject.status.model_copy(update={"parity_error": 0.0, "parity_limit": 0.0}))
    (found,) = ask(strict, {"image": images[:1]})
    assert found.attributions is None
    assert not found.fields["converged"]
    assert "differs" in found.fields["warnings"][0]


def test_a_model_without_a_twin_says_why(subjects, images) -> None:
    subject = subjects["cnn"]
    without = dataclasses.replace(subject, status=subject.status.model_copy(update={"unsupported": ("some.where.Mystery",)}))
    with pytest.raises(NotExplainable, match="Mystery"):
        ask(without, {"image": images[:1]})


def test_no_answer_in_time_is_an_error_and_half_an_answer_is_not(subjects, images) -> None:
    with pytest.raises(DeadlineExceeded):
        ask(subjects["cnn"], {"image": images[:1]}, Token(0))

    class Later(Token):
        """Time is up at one of the next questions."""

        def __init__(self, questions: int) -> None:
            super().__init__(60)
            self.left = questions

        @property
        def remaining(self) -> float:
            self.left -= 1
            return 1.0 if self.left >= 0 else -1.0

    for questions in range(40):
        try:
            (found,) = ask(subjects["cnn"], {"image": images[:1]}, Later(questions), tolerance=1e-9)
            break
        except DeadlineExceeded:
            continue
    assert questions > 0
    assert found.fields["timed_out"]
    assert not found.fields["converged"]
    assert "time" in found.fields["warnings"][0]


def test_a_cancelled_explanation_stops(subjects, images) -> None:
    token = Token(60)
    token.cancel()
    with pytest.raises(Cancelled):
        ask(subjects["cnn"], {"image": images[:1]}, token)


def test_a_target_an_instance(subjects, images) -> None:
    with pytest.raises(BadParameter, match="targets"):
        ask(subjects["cnn"], {"image": images[:2]}, targets=[1])

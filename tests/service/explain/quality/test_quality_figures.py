"""Trust figures against closed forms, against ONNX Runtime asked directly, and against Captum's own metrics."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnxruntime as ort
import pytest
import torch
from captum.attr import Saliency
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import sensitivity_max as captum_sensitivity

from service.explain.attribution import attribute
from service.explain.quality.curves import PAIRS, curves
from service.explain.quality.ground import ground_of
from service.explain.quality.infidelity import compared, infidelity, removals
from service.explain.quality.sensitivity import RADIUS, neighbours, sensitivity

X = np.asarray([[1.0, -2.0, 0.3, 4.0, 0.0]], np.float32)
W = np.random.default_rng(0).uniform(-1, 1, (4, 5)).astype(np.float32)  # as the bundle `linear` has it
B = np.random.default_rng(0).uniform(-1, 1, 4).astype(np.float32)
BASELINE = 0.5


def probability(x: np.ndarray, target: int) -> np.ndarray:
    scores = x.astype(np.float64) @ W.T + B
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True))[:, target]


def test_exact_shares_of_a_linear_model_foretell_everything(subjects, case_of) -> None:
    case = case_of(subjects["linear"], {"x": X})
    found = infidelity(ground_of(case, attribute(case)), 0)
    assert found.relative == pytest.approx(0, abs=1e-8)
    assert found.scale == pytest.approx(1, abs=1e-4)
    assert found.raw == pytest.approx(0, abs=1e-8)


def test_a_slope_foretells_by_its_distance_from_the_baseline(subjects, case_of) -> None:
    case = case_of(subjects["linear"], {"x": X}, method="saliency", absolute=False)
    assert infidelity(ground_of(case, attribute(case)), 0).relative == pytest.approx(0, abs=1e-8)


def test_magnitudes_foretell_nothing(subjects, case_of) -> None:
    case = case_of(subjects["linear"], {"x": X}, method="saliency")
    assert infidelity(ground_of(case, attribute(case)), 0) is None


def test_zeros_have_infidelity_1_and_twice_the_shares_are_right_but_for_their_unit(subjects, case_of) -> None:
    case = case_of(subjects["linear"], {"x": X})
    found = attribute(case)
    zeros, twice = (
        infidelity(ground_of(case, dataclasses.replace(found, attributions={"x": factor * found.attributions["x"]})), 0)
        for factor in (0, 2)
    )
    assert zeros.relative == pytest.approx(1)
    assert twice.relative == pytest.approx(1, rel=1e-5)
    assert twice.scaled == pytest.approx(0, abs=1e-6)
    assert twice.scale == pytest.approx(0.5, rel=1e-5)


def test_the_standard_error_is_that_of_many_repetitions() -> None:
    rng = np.random.default_rng(3)

    def once() -> tuple[float, float]:
        changes = rng.standard_normal(64)
        found = compared(changes + 0.5 * rng.standard_normal(64), changes, 1.0)
        return found.relative, found.standard_error

    values, errors = np.asarray([once() for _ in range(400)]).T
    assert errors.mean() == pytest.approx(values.std(), rel=0.15)
    assert values.mean() == pytest.approx(0.25, rel=0.1)


def test_the_slope_of_a_linear_model_is_the_same_everywhere(subjects, case_of) -> None:
    case = case_of(subjects["linear"], {"x": X}, method="saliency")
    assert sensitivity(case, attribute(case), 0).maximum == pytest.approx(0, abs=1e-6)


def test_input_times_slope_moves_as_the_input_does(subjects, case_of) -> None:
    case = case_of(subjects["linear"], {"x": X}, method="input_x_gradient")
    target = int((X @ W.T + B).argmax())
    found = sensitivity(case, attribute(case), 5)
    moved = [np.linalg.norm(W[target] * (y[0].numpy() - X)) for y in neighbours(case, 5, found.neighbours)]
    assert found.maximum == pytest.approx(max(moved) / np.linalg.norm(W[target] * X), rel=1e-4)
    for (y,) in neighbours(case, 5, 50):  # values span -2 to 4 in the instance and its baseline
        assert 0 < np.abs(y.numpy() - X).max() <= RADIUS * 6 + 1e-6


def test_the_curves_of_a_linear_model_are_those_of_the_textbook(subjects, case_of) -> None:
    case = case_of(subjects["linear"], {"x": X}, target=1)
    found = curves(ground_of(case, attribute(case)), 0)
    order = np.argsort(-(W[1] * (X[0] - BASELINE)))
    removed, back = [], []
    for k in range(6):
        x = X[0].copy()
        x[order[:k]] = BASELINE
        removed.append(x)
        y = np.full(5, BASELINE, np.float32)
        y[order[:k]] = X[0][order[:k]]
        back.append(y)
    assert found.shows == "probability"
    np.testing.assert_allclose(found.deletion.curve, probability(np.stack(removed), 1), rtol=1e-4)
    np.testing.assert_allclose(found.insertion.curve, probability(np.stack(back), 1), rtol=1e-4)
    np.testing.assert_allclose(found.deletion.fractions, np.arange(6) / 5)
    steps = np.asarray(found.insertion.curve)
    assert found.insertion.area == pytest.approx((steps[:-1] + steps[1:]).mean() / 2, rel=1e-6)
    assert found.rows == 2 + (2 * PAIRS + 2) * 4


def test_a_random_orders_floor_is_the_mean_over_all_orders(subjects, case_of) -> None:
    """Of 3 units there are 6 orders: the exact mean lies within a few standard errors of the drawn one."""
    x = np.asarray([[2.0, -3.0, 1.5]], np.float32)
    case = case_of(subjects["product"], {"x": x})
    found = curves(ground_of(case, attribute(case)), 0)
    full = 2 * -3 + 3 * 1.5
    alone = [(a * b * p * q + 3 * c * r) / abs(full) for a, b, c in x for p, q, r in ([0, 1, 1], [1, 0, 1], [1, 1, 0])]
    pairs = [(a * b * p * q + 3 * c * r) / abs(full) for a, b, c in x for p, q, r in ([0, 0, 1], [1, 0, 0], [0, 1, 0])]
    expected = [full / abs(full), np.mean(alone), np.mean(pairs), 0]
    assert found.shows == "output"
    assert found.deletion.random_area == pytest.approx(np.trapezoid(expected, dx=1 / 3), abs=5 * found.deletion.random_standard_error)
    assert found.deletion.random_curve[0] == pytest.approx(expected[0])
    assert found.deletion.random_curve[-1] == 0


def test_tokens_are_removed_by_the_padding_token(subjects, bundles, case_of) -> None:
    tokens, lengths = np.asarray([[3, 7, 1, 9]]), np.asarray([4])
    case = case_of(subjects["text"], {"tokens": tokens, "lengths": lengths}, target=1)
    ground = ground_of(case, attribute(case))
    kept = np.asarray([[1, 1, 1, 1], [0, 1, 1, 1], [1, 0, 0, 1], [0, 0, 0, 0]], bool)
    session = ort.InferenceSession(str(bundles / "text" / "1" / "model.onnx"))
    (scores,) = session.run(None, {"tokens": np.where(kept, tokens, 0), "lengths": np.repeat(lengths, 4)})
    answers = ground.answers(kept)
    assert ground.noun == "tokens"
    np.testing.assert_allclose(answers[:, 0], scores[:, 1], atol=1e-6)
    powers = np.exp(scores.astype(np.float64))
    np.testing.assert_allclose(answers[:, 1], powers[:, 1] / powers.sum(1), atol=1e-6)


def test_only_what_differs_from_the_baseline_can_be_removed(subjects, case_of) -> None:
    x = X.copy()
    x[0, 2] = BASELINE
    case = case_of(subjects["linear"], {"x": x})
    ground = ground_of(case, attribute(case))
    assert ground.count == 4
    assert (ground.numbers["x"] == [0, 1, -1, 2, 3]).all()


def test_both_inputs_of_a_generator_are_judged(subjects, case_of) -> None:
    feeds = {"latent": np.asarray([[1.0, -1, 0.5, 2]], np.float32), "class": np.asarray([1])}
    case = case_of(subjects["generator"], feeds)
    ground = ground_of(case, attribute(case))
    assert ground.count == 5
    rng = np.random.default_rng(0)
    assert {bool(ground.removal(rng)[4]) for _ in range(40)} == {True, False}
    assert curves(ground, 0).shows == "output"
    assert infidelity(ground, 0).relative is not None


# --------------------------------------------------------------------------------------------- Captum's own, on the module


@pytest.fixture
def picture(images) -> np.ndarray:
    return images[:1]


def test_infidelity_is_captums(subjects, cnn_module, case_of, picture) -> None:
    """The same removals handed to Captum, whose perturbation of shares is the mask of what is removed."""
    case = case_of(subjects["cnn"], {"image": picture}, target=3)
    found = attribute(case)
    ours = infidelity(ground_of(case, found), 0)
    removed = torch.from_numpy(removals(ground_of(case, found), 0).reshape(-1, 1, 12, 12))
    image = torch.from_numpy(picture)
    given = captum_infidelity(
        lambda x: cnn_module(x)[:, 3],
        lambda inputs: (removed.float(), torch.where(removed, torch.zeros_like(inputs), inputs)),
        image,
        torch.from_numpy(found.attributions["image"][None]),
        n_perturb_samples=len(removed),
    )
    assert ours.raw == pytest.approx(float(given), rel=1e-3)
    scaled = captum_infidelity(
        lambda x: cnn_module(x)[:, 3],
        lambda inputs: (removed.float(), torch.where(removed, torch.zeros_like(inputs), inputs)),
        image,
        torch.from_numpy(found.attributions["image"][None]),
        n_perturb_samples=len(removed),
        normalize=True,
    )
    with torch.no_grad():
        changes = cnn_module(image)[:, 3] - cnn_module(torch.where(removed, 0.0, image))[:, 3]
    assert ours.scaled * float((changes.double() ** 2).mean()) == pytest.approx(float(scaled), rel=1e-3)


def test_sensitivity_is_captums(subjects, cnn_module, case_of, picture) -> None:
    case = case_of(subjects["cnn"], {"image": picture}, target=3, method="saliency")
    ours = sensitivity(case, attribute(case), 0)
    points = torch.cat([y for (y,) in neighbours(case, 0, ours.neighbours)])
    one_by_one = iter(points.split(1))
    saliency = Saliency(lambda x: cnn_module(x)[:, 3])
    given = captum_sensitivity(
        lambda x: saliency.attribute((x[0] if isinstance(x, tuple) else x).detach().requires_grad_()),  # Captum hands over either
        torch.from_numpy(picture),
        perturb_func=lambda inputs: next(one_by_one),
        n_perturb_samples=len(points),
        max_examples_per_batch=1,
    )
    assert ours.maximum == pytest.approx(float(given), rel=1e-3)
    assert ours.neighbours >= 2
    assert points.min() >= 0
    assert points.max() <= 255

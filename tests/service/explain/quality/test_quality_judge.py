"""Verdicts: on models whose trustworthiness is known, on real ones against attributions drawn at random, and when time ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from support import DIGITS, SENTENCES, bundle_named
from tokenizers import Tokenizer

from service.explain.attribution import Found, attribute
from service.explain.cancel import Cancelled, Token
from service.explain.case import Case
from service.explain.explainer import explain
from service.explain.methods import resolve
from service.explain.quality import judge
from service.explain.quality.units import MOST, units_of, window
from service.explain.quality.verdict import Grade
from service.explain.subject import Subject
from service.manifest import ImagePolicy, Input, Output

FIGURES = {"completeness_error", "parity_error", "infidelity", "sensitivity_max", "deletion", "insertion"}


def judged(case: Case, found: Found | None = None, token: Token | None = None):
    found = found or attribute(case)
    error = None
    if "completeness" in case.request.method.promises:
        moved = case.instance_output - case.baseline.output
        error = abs(found.total - moved) / max(abs(moved), 0.01)
    return judge(case, found, error, token or Token(60))


def drawn(found: Found, seed: int) -> Found:
    """Attributions of the same size that know nothing."""
    rng = np.random.default_rng(seed)
    fakes = {name: (rng.standard_normal(a.shape) * a.std()).astype(np.float32) for name, a in found.attributions.items()}
    return dataclasses.replace(found, attributions=fakes)


def digit(number: int) -> dict[str, np.ndarray]:
    return {"image": DIGITS["test_pixels"][number].reshape(1, 1, 28, 28).astype(np.float32)}


def sentence(text: str) -> dict[str, np.ndarray]:
    ids = Tokenizer.from_file(str(bundle_named("sst2-gru").folder / "tokenizer.json")).encode(text).ids
    return {"tokens": np.asarray([ids]), "lengths": np.asarray([len(ids)])}


@pytest.mark.slow
def test_integrated_gradients_of_digits_beat_random_attributions(mnist, case_of) -> None:
    grades, fakes, ours, theirs, foretold = [], [], [], [], []
    for number in range(20):
        case = case_of(mnist, digit(number))
        found = attribute(case)
        good, bad = judged(case, found), judged(case, drawn(found, number + 100))
        grades.append(good.verdict.grade)
        fakes.append(bad.verdict.grade)
        ours.append(good.figures.curves.insertion.area - good.figures.curves.deletion.area)
        theirs.append(bad.figures.curves.insertion.area - bad.figures.curves.deletion.area)
        foretold.append(good.figures.infidelity.relative < bad.figures.infidelity.relative)
    assert sum(foretold) >= 17
    assert all(our > their for our, their in zip(ours, theirs, strict=True))
    assert grades.count(Grade.GOOD) >= 15
    assert set(fakes) == {Grade.BAD}


@pytest.mark.parametrize("text", SENTENCES[:2])
def test_integrated_gradients_of_sentences_beat_random_attributions(sst2, case_of, text) -> None:
    case = case_of(sst2, sentence(text))
    found = attribute(case)
    good, bad = judged(case, found), judged(case, drawn(found, 7))
    assert good.figures.noun == "tokens"
    assert good.figures.units == len(sentence(text)["tokens"][0])
    assert good.verdict.grade is Grade.GOOD
    assert bad.verdict.grade is Grade.BAD
    assert good.figures.infidelity.relative < 0.1 < bad.figures.infidelity.relative


def test_a_good_verdict_says_what_each_figure_means(mnist, case_of) -> None:
    text = judged(case_of(mnist, digit(0))).verdict.text
    assert text.startswith("Trustworthy. Good: the attributions add up to the logit's change")
    for words in ("highest-ranked pixels removed first the probability averages", "in random order", "foretells", "it is steady"):
        assert words in text
    assert "Not good" not in text
    assert "What may help" not in text


def test_random_attributions_are_not_trustworthy_and_a_remedy_is_named(mnist, case_of) -> None:
    case = case_of(mnist, digit(0), method="input_x_gradient")
    text = judged(case, drawn(attribute(case), 3)).verdict.text
    assert text.startswith("Not trustworthy. Not good: its order is no better than a random one")
    assert "e.g. integrated_gradients" in text


def test_an_incomplete_explanation_is_not_trustworthy(mnist, case_of) -> None:
    case = case_of(mnist, digit(0))
    found = attribute(case)
    half = dataclasses.replace(found, attributions={"image": found.attributions["image"] / 2})
    moved = case.instance_output - case.baseline.output
    missed = abs(half.total - moved) / abs(moved)
    verdict = judged(case, half).verdict
    assert verdict.grade is Grade.BAD
    assert f"miss the logit's change from the baseline by {missed:.1%}" in verdict.text


def test_saliency_promises_no_completeness(mnist, case_of) -> None:
    judgement = judged(case_of(mnist, digit(3), method="saliency"))
    assert judgement.quality["completeness_error"] is None
    assert judgement.quality["infidelity"] is None
    assert "add up" not in judgement.verdict.text


# --------------------------------------------------------------------------------------------------- borderline models


@pytest.fixture(scope="module")
def odd(gemm) -> Mapping[str, Subject]:
    value = Output(name="y", kind="value", dtype="float32", shape=(1,))
    yes = Output(name="y", kind="classes", dtype="float32", shape=(1,), labels=("no", "yes"), activation="sigmoid")
    return {
        "constant": gemm("constant", [0, 0, 0], 3, value),
        "saturated": gemm("saturated", [1, 2, -1], 40, yes),
        "nearly": gemm("nearly", [1, 2, -1], 9, yes),
    }


ONES = {"x": np.asarray([[1.0, 2.0, 3.0]], np.float32)}


def test_a_constant_model_leaves_nothing_to_explain(odd, case_of) -> None:
    judgement = judged(case_of(odd["constant"], ONES))
    assert judgement.verdict.grade is Grade.UNKNOWN
    assert "doesn't change, whatever is removed" in judgement.verdict.text
    assert judgement.quality["infidelity"] is None
    assert judgement.quality["deletion"]["curve"] == (0, 0, 0, 0)


def test_attributions_of_a_constant_model_are_wrong(odd, case_of) -> None:
    case = case_of(odd["constant"], ONES)
    found = dataclasses.replace(attribute(case), attributions={"x": np.ones(3, np.float32)})
    assert judged(case, found).verdict.text.startswith("Not trustworthy. The value doesn't change")


def test_a_saturated_probability_gives_way_to_the_logit(odd, case_of) -> None:
    """F(x) = 42, F(b) = 40, and the shares are 1, 4 and -3: removed in the order x1, x0, x2."""
    judgement = judged(case_of(odd["saturated"], ONES))
    assert judgement.quality["curves_show"] == "output"
    np.testing.assert_allclose(judgement.quality["deletion"]["curve"], [1, -1, -1.5, 0])
    np.testing.assert_allclose(judgement.quality["insertion"]["curve"], [0, 2, 2.5, 1])
    assert "can't be told from a lucky one" in judgement.verdict.text


def test_where_the_saturated_probability_itself_is_explained_the_curves_say_nothing(odd, case_of) -> None:
    text = judged(case_of(odd["nearly"], ONES, explained="probability")).verdict.text
    assert "the probability hardly moves whatever is removed" in text
    assert "explained=logit" in text
    assert judged(case_of(odd["saturated"], ONES, explained="probability")).verdict.grade is Grade.UNKNOWN


def test_an_instance_that_is_the_baseline_cannot_be_judged(odd, case_of) -> None:
    judgement = judged(case_of(odd["saturated"], {"x": np.zeros((1, 3), np.float32)}))
    assert judgement.verdict.text.startswith("Can't be judged. The instance is the same as the baseline")
    assert judgement.quality["units"] == 0


# ------------------------------------------------------------------------------------------------------ time and memory


def test_when_the_time_is_up_figures_are_null_and_the_verdict_says_so(mnist, case_of) -> None:
    case = case_of(mnist, digit(0))
    judgement = judge(case, attribute(case), 0.001, Token(0))
    assert judgement.quality["deletion"] is None
    assert judgement.quality["sensitivity_max"] is None
    assert judgement.quality["complete"] is False
    assert "the time was up before every figure was taken" in judgement.verdict.text
    assert judgement.verdict.grade is Grade.UNKNOWN


def test_who_hangs_up_gets_no_verdict(mnist, case_of) -> None:
    case = case_of(mnist, digit(0))
    found = attribute(case)
    token = Token(60)
    token.cancel()
    with pytest.raises(Cancelled):
        judge(case, found, None, token)


def test_figures_are_the_same_at_any_memory(mnist, case_of) -> None:
    def figures(memory: int) -> dict[str, Any]:
        request = resolve(mnist.manifest, {"quality": True})
        (explanation,) = explain(mnist, request, digit(1), Token(60), memory).explanations
        return {name: explanation.fields["quality"][name] for name in ("infidelity", "beyond_chance")}

    assert figures(8000) == pytest.approx(figures(64 << 20), rel=1e-3)


def test_every_row_is_judged_by_its_own_target(mnist) -> None:
    request = resolve(mnist.manifest, {"quality": True, "targets": [7, 3]})
    feeds = {"image": np.concatenate([digit(0)["image"], digit(0)["image"]])}
    seven, three = explain(mnist, request, feeds, Token(60), 64 << 20).explanations
    assert seven.fields["quality"].keys() >= FIGURES
    assert seven.fields["quality"]["deletion"]["curve"][0] > 0.9
    assert three.fields["quality"]["deletion"]["curve"][0] < 0.1


# ----------------------------------------------------------------------------------------------------------------- units


def image(height: int, width: int, layout: str) -> Input:
    shape = (height, width, 3) if layout == "NHWC" else (3, height, width)
    policy = ImagePolicy(height=height, width=width, channels=3, layout=layout)  # type: ignore[arg-type]
    return Input(name="x", codec="image", dtype="float32", shape=shape, image=policy)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_large_pictures_units_are_tiles_with_all_their_channels(layout) -> None:
    entry = image(224, 200, layout)
    units = units_of(entry, entry.shape)
    labels = units.labels if layout == "NCHW" else units.labels.transpose(2, 0, 1)
    assert units.count <= MOST
    assert (labels[0] == labels[2]).all()
    assert labels[0, 0, 0] == labels[0, 3, 3] != labels[0, 0, 4]
    assert labels.max() == units.count - 1


def test_a_pictures_window_is_a_square_around_its_centre() -> None:
    entry = image(20, 20, "NCHW")
    units, rng = units_of(entry, entry.shape), np.random.default_rng(0)
    sizes = []
    for _ in range(50):
        inside = window(units, 210, rng).reshape(20, 20)
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        assert inside[10, 10]
        assert inside.sum() == len(rows) * len(columns)
        assert np.ptp(rows) == len(rows) - 1
        sizes.append(len(rows))
    assert min(sizes) >= 2
    assert max(sizes) <= 10


# ------------------------------------------------------------------------------------------------------------ the server


@pytest.mark.parametrize("name", ["mnist-cnn", "sst2-gru", "mnist-generator", "wine-mlp"])
def test_the_server_answers_with_figures_and_a_verdict(client, name) -> None:
    bundle = bundle_named(name)
    body = {"instances": [bundle.instance(0)], "parameters": {"quality": True}}
    answer = client.post(f"{bundle.v1}:explain", json=body)
    assert answer.status_code == 200, answer.text
    (explanation,) = answer.json()["explanations"]
    quality = explanation["quality"]
    assert quality.keys() >= FIGURES
    for curve in (quality["deletion"], quality["insertion"]):
        assert len(curve["curve"]) == len(curve["random_curve"]) == len(curve["fractions"]) <= 17
        assert curve["fractions"][0] == 0
        assert curve["fractions"][-1] == 1
    assert quality["completeness_error"] == explanation["completeness_error"]
    assert explanation["verdict"].split(".")[0] in ("Trustworthy", "To be taken with care", "Not trustworthy", "Can't be judged")

"""Rows to generate: drawn by seed where the request leaves them out, checked where it doesn't."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.errors import BadInput, BadParameter, NotFound, UnknownChoice
from service.generation import rows_to_generate
from service.manifest import Input, Manifest, Output
from service.parameters import GenerateParameters, check

LATENT = Input(name="latent", codec="tensor", dtype="float32", shape=(1000,), sample="normal")
SPREAD = Input(name="spread", codec="tensor", dtype="float32", shape=(1000,), range=(-2.0, 6.0), sample="uniform")
CLASS = Input(name="class", codec="tensor", dtype="int64", shape=(), labels=("zero", "one", "two"), sample="label")
FIXED = Input(name="fixed", codec="tensor", dtype="float32", shape=(2,))


def manifest(*inputs: Input) -> Manifest:
    output = Output(name="y", kind="image", dtype="float32", shape=(1, 2, 2), layout="NCHW")
    return Manifest(name="m", version=1, task="generation", inputs=inputs, outputs=(output,), files={"model.onnx": "0" * 64})


def rows(*inputs: Input, sent: list[dict[str, Any]] | None = None, **parameters: Any) -> list[dict[str, np.ndarray]]:
    return rows_to_generate(manifest(*inputs), sent or [], check(GenerateParameters, parameters))


def test_drawn_values_have_the_distribution_declared():
    """Mean and deviation of N(0, 1) and of U(-2, 6) within five standard errors of 50,000 values."""
    made = rows(LATENT, SPREAD, CLASS, n=50)
    normal = np.stack([row["latent"] for row in made])
    assert abs(normal.mean()) < 5 / np.sqrt(normal.size)
    assert abs(normal.std() - 1) < 5 / np.sqrt(2 * normal.size)
    uniform = np.stack([row["spread"] for row in made])
    assert uniform.min() >= -2
    assert uniform.max() <= 6
    assert abs(uniform.mean() - 2) < 5 * 8 / np.sqrt(12 * uniform.size)
    assert {int(row["class"]) for row in made} == {0, 1, 2}
    assert made[0]["latent"].dtype == np.float32
    assert made[0]["class"].shape == ()


def test_a_seed_draws_the_same_and_fewer_rows_are_the_first_of_more():
    first, second = rows(LATENT, CLASS, n=5, seed=3), rows(LATENT, CLASS, n=2, seed=3)
    for one, other in zip(first[:2], second, strict=True):
        assert all((one[name] == other[name]).all() for name in one)
    assert (rows(LATENT, seed=3)[0]["latent"] != rows(LATENT, seed=4)[0]["latent"]).any()


def test_giving_one_input_leaves_the_others_as_they_were():
    drawn = rows(CLASS, LATENT, n=2, seed=1)
    given = rows(CLASS, LATENT, n=2, seed=1, **{"class": "two"})
    assert [int(row["class"]) for row in given] == [2, 2]
    for one, other in zip(drawn, given, strict=True):
        assert (one["latent"] == other["latent"]).all()


def test_instances_go_before_the_parameter():
    made = rows(LATENT, CLASS, sent=[{"class": 1}, {"class": "two"}, {}], **{"class": 0})
    assert [int(row["class"]) for row in made] == [1, 2, 0]


def test_a_classifier_with_an_input_that_could_be_drawn_generates_nothing():
    """The discriminator: its class may be drawn, its answer is no picture."""
    classifier = manifest(FIXED, CLASS).model_copy(update={"task": "classification"})
    numbers = manifest(LATENT).model_copy(update={"outputs": (Output(name="y", kind="tensor", dtype="float32", shape=(1,)),)})
    for model in (classifier, numbers):
        with pytest.raises(NotFound, match=":predict"):
            rows_to_generate(model, [], check(GenerateParameters, {}))


def test_what_is_refused():
    with pytest.raises(NotFound, match=":predict"):
        rows(FIXED)
    with pytest.raises(BadParameter, match="no classes"):
        rows(LATENT, **{"class": 1})
    with pytest.raises(BadInput, match="'fixed' is missing"):
        rows(LATENT, FIXED)
    with pytest.raises(BadInput, match="'nope'"):
        rows(LATENT, sent=[{"nope": 1}])
    for wrong in ("three", 3, -1):
        with pytest.raises(UnknownChoice, match="zero"):
            rows(LATENT, CLASS, **{"class": wrong})

"""Baselines by name against what their definitions say."""

from __future__ import annotations

import numpy as np
import pytest

from service.errors import BadParameter, UnknownChoice
from service.explain.baselines import choose
from service.explain.methods import resolve
from service.manifest import Baseline, Column, Explain, ImagePolicy, Input, Manifest, Output, TablePolicy

PICTURE = Input(
    name="x", codec="image", dtype="uint8", shape=(1, 21, 21), range=(0, 255), image=ImagePolicy(height=21, width=21, channels=1)
)
TABLE = Input(
    name="x",
    codec="table",
    dtype="float32",
    shape=(2,),
    table=TablePolicy(columns=(Column(name="a", mean=1.0, minimum=0, maximum=2), Column(name="b", mean=5.0, minimum=4, maximum=8))),
)


def chosen(entry: Input, x: np.ndarray, baseline: object, seed: int = 0, declared: Baseline | None = None):
    manifest = Manifest(
        name="m",
        version=1,
        task="other",
        inputs=(entry,),
        outputs=(Output(name="y", kind="value", dtype="float32", shape=(1,)),),
        explain=Explain(output="value", baseline={"x": declared} if declared else {}),
        files={"model.onnx": "0" * 64},
    )
    request = resolve(manifest, {"baseline": baseline, "seed": seed})
    return choose(request, manifest, ["x"], {"x": x})["x"]


def dot() -> np.ndarray:
    x = np.zeros((1, 1, 21, 21), np.uint8)
    x[..., 10, 10] = 255
    return x


def test_a_blur_spreads_what_is_there_and_keeps_its_sum() -> None:
    found = chosen(
        PICTURE.model_copy(update={"dtype": "float32"}), dot().astype(np.float32), "blur", declared=Baseline(kind="blur", value=1)
    )
    assert found.described == {"blur": 1.0}
    assert found.input.sum() == pytest.approx(255, rel=1e-4)
    # The middle of a Gaussian of standard deviation 1: 1 / 2 pi, sampled and normalised on the grid.
    assert found.input[0, 0, 10, 10] == pytest.approx(255 / (2 * np.pi), rel=1e-3)
    flat = chosen(PICTURE, np.full((1, 1, 21, 21), 77, np.uint8), "blur")
    assert flat.input.dtype == np.uint8
    assert (flat.input == 77).all()


@pytest.mark.parametrize("kind", ["noise", "uniform"])
def test_random_baselines_stay_within_the_range_and_come_again_with_their_seed(kind: str) -> None:
    first, again, other = (chosen(PICTURE, dot(), kind, seed).input for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    assert first.dtype == np.uint8
    table = chosen(TABLE, np.asarray([[1.0, 5.0]], np.float32), kind).input[0]
    assert 0 <= table[0] <= 2
    assert 4 <= table[1] <= 8


def test_uniform_is_uniform() -> None:
    values = chosen(PICTURE, dot(), "uniform").input.astype(float).reshape(-1)
    assert values.mean() == pytest.approx(127.5, abs=3 * 255 / np.sqrt(12 * values.size))


@pytest.mark.parametrize(("entry", "kind"), [(TABLE, "blur"), (Input(name="x", codec="tensor", dtype="float32", shape=(2,)), "uniform")])
def test_what_makes_no_sense_for_an_input_is_said(entry: Input, kind: str) -> None:
    with pytest.raises(BadParameter, match=f"'{kind}'"):
        chosen(entry, np.zeros((1, 2), np.float32), kind)


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(UnknownChoice, match="zero, mean, blur, noise, uniform, token"):
        chosen(TABLE, np.zeros((1, 2), np.float32), "white")

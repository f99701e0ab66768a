"""Predictions from outputs. Expected probabilities come from scipy, the rest from the contract."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from scipy.special import expit, softmax

from service.codecs.output import encode_predictions, probabilities
from service.errors import ModelFailed
from service.manifest import Output

rng = np.random.default_rng(0)


def classes(count, activation="softmax", **changes):
    values = {"name": "y", "kind": "classes", "dtype": "float32", "shape": (count,), "activation": activation}
    return Output(**values | changes)


def one(array, output, **options):
    (prediction,) = encode_predictions({output.name: array}, (output,), **options)
    return prediction


@pytest.mark.parametrize("count", [3, 10, 64, 65, 1000])
def test_softmax_classes(count):
    scores = (rng.normal(size=(4, count)) * 5).astype(np.float32)
    labels = tuple(f"c{index}" for index in range(count))
    predictions = encode_predictions({"y": scores}, (classes(count, labels=labels),), top_k=3)
    expected = softmax(scores.astype(np.float64), axis=1)
    for prediction, row in zip(predictions, expected, strict=True):
        ranked = np.argsort(-row)[:3]
        assert (prediction["label"], prediction["index"]) == (f"c{ranked[0]}", ranked[0])
        assert prediction["probability"] == pytest.approx(row.max(), rel=1e-9)
        assert [entry["index"] for entry in prediction["top"]] == ranked.tolist()
        assert [entry["probability"] for entry in prediction["top"]] == pytest.approx(row[ranked].tolist(), rel=1e-9)
        assert prediction["top"][0] == {key: prediction[key] for key in ("label", "index", "probability")}


def test_five_by_default_and_no_more_than_there_are():
    assert len(one(np.zeros((1, 10), np.float32), classes(10))["top"]) == 5
    assert len(one(np.zeros((1, 3), np.float32), classes(3))["top"]) == 3


@pytest.mark.parametrize("count", [10, 100])
def test_equal_scores_rank_as_argmax_does(count):
    prediction = one(np.ones((1, count), np.float32), classes(count))
    assert [entry["index"] for entry in prediction["top"]] == [0, 1, 2, 3, 4]
    assert prediction["label"] == "0"


def test_large_and_infinite_scores():
    assert one(np.array([[1000.0, -1000.0, -np.inf]], np.float32), classes(3))["probability"] == 1.0


@pytest.mark.parametrize("shape", [(2, 1), (2,)])
def test_a_single_sigmoid_score_is_the_score_of_label_1(shape):
    scores = np.array([2.0, -3.0], np.float32).reshape(shape)
    output = classes(1, "sigmoid", labels=("fake", "real"), shape=shape[1:])
    real, fake = encode_predictions({"y": scores}, (output,))
    assert (real["label"], fake["label"]) == ("real", "fake")
    assert real["probability"] == pytest.approx(expit(2.0))
    assert fake["probability"] == pytest.approx(expit(3.0))
    assert [entry["label"] for entry in real["top"]] == ["real", "fake"]


def test_what_is_activated_already_is_taken_as_it_is():
    row = np.array([[0.2, 0.5, 0.3]], np.float32)
    assert one(row, classes(3, activated=True))["probability"] == pytest.approx(0.5)
    assert one(np.array([[0.25]], np.float32), classes(1, "sigmoid", activated=True, labels=("a", "b")))["label"] == "a"


def test_several_sigmoids_are_independent():
    prediction = one(np.array([[0.0, 3.0]], np.float32), classes(2, "sigmoid", labels=("a", "b")))
    assert [entry["probability"] for entry in prediction["top"]] == pytest.approx([expit(3.0), 0.5])


def test_scores_without_activation_are_no_probabilities():
    prediction = one(np.array([[-1.5, 2.5]], np.float32), classes(2, "none"))
    assert (prediction["index"], prediction["score"]) == (1, 2.5)
    assert "probability" not in prediction


@pytest.mark.parametrize("count", [10, 100])
def test_nan_scores_are_the_models_failure(count):
    scores = np.zeros((1, count), np.float32)
    scores[0, 3] = np.nan
    with pytest.raises(ModelFailed, match="'y' is not a number"):
        one(scores, classes(count))


def test_probabilities_agree_with_scipy():
    scores = rng.normal(size=(5, 4)).astype(np.float32) * 50
    np.testing.assert_allclose(probabilities(scores, classes(4)), softmax(scores.astype(float), axis=1), rtol=1e-12)
    np.testing.assert_allclose(probabilities(scores, classes(4, "sigmoid")), expit(scores.astype(float)), rtol=1e-12)
    single = probabilities(scores[:, :1], classes(1, "sigmoid"))
    np.testing.assert_allclose(single, np.stack((expit(-scores[:, 0].astype(float)), expit(scores[:, 0].astype(float))), 1), rtol=1e-12)


def test_values():
    def value(shape):
        return Output(name="y", kind="value", dtype="float32", shape=shape)

    assert one(np.array([[1.5]], np.float32), value((1,))) == {"value": 1.5}
    assert one(np.array([1.5], np.float32), value(())) == {"value": 1.5}
    assert one(np.array([[1.5, 2.5]], np.float32), value((2,))) == {"values": [1.5, 2.5]}
    assert one(np.array([[[1.5], [2.5]]], np.float32), value((2, 1))) == {"values": [[1.5], [2.5]]}
    assert one(np.array([[np.nan]], np.float32), value((1,))) == {"value": "NaN"}


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_mask_is_the_class_of_each_pixel(layout):
    scores = rng.normal(size=(1, 3, 4, 5)).astype(np.float32)
    output = Output(name="y", kind="mask", dtype="float32", shape=(3, 4, 5), layout=layout, labels=("sky", "sea", "land"))
    prediction = one(scores if layout == "NCHW" else scores.transpose(0, 2, 3, 1), output)
    with Image.open(BytesIO(base64.b64decode(prediction["b64"]))) as image:
        np.testing.assert_array_equal(np.asarray(image), scores[0].argmax(axis=0))
    assert prediction["labels"] == {"0": "sky", "1": "sea", "2": "land"}


def test_other_outputs_come_by_name():
    outputs = (
        Output(name="image", kind="image", dtype="float32", shape=(1, 2, 2)),
        Output(name="n", kind="tensor", dtype="int64", shape=()),
    )
    arrays = {"image": np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2), "n": np.array([4, 5])}
    assert encode_predictions(arrays, outputs) == [
        {"image": [[[0.0, 1.0], [2.0, 3.0]]], "n": 4},
        {"image": [[[4.0, 5.0], [6.0, 7.0]]], "n": 5},
    ]


def test_further_outputs_beside_the_first():
    extra = Output(name="features", kind="tensor", dtype="float32", shape=(2,))
    arrays = {"y": np.zeros((1, 3), np.float32), "features": np.array([[1.0, 2.0]], np.float32)}
    (prediction,) = encode_predictions(arrays, (classes(3), extra))
    assert prediction["outputs"] == {"features": [1.0, 2.0]}
    assert prediction["index"] == 0

"""Golden cases: bodies as a client sends them, answers as the contract writes them."""

from __future__ import annotations

import base64
import io
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from training.golden import b64_instance, classifications, json_case, png, raw_case


def test_a_prediction_has_the_contracts_form_best_first():
    (answer,) = classifications(torch.tensor([[0.0, math.log(3.0), math.log(4.0)]]), ("a", "b", "c"))
    assert (answer["label"], answer["index"]) == ("c", 2)
    assert answer["probability"] == pytest.approx(4 / 8)
    assert [(entry["label"], entry["index"]) for entry in answer["top"]] == [("c", 2), ("b", 1), ("a", 0)]
    assert [entry["probability"] for entry in answer["top"]] == pytest.approx([4 / 8, 3 / 8, 1 / 8])


def test_the_top_is_five_of_many():
    (answer,) = classifications(torch.arange(10.0)[None], tuple("0123456789"))
    assert [entry["label"] for entry in answer["top"]] == list("98765")


@pytest.mark.parametrize(("logit", "label", "probability"), [(math.log(3.0), "real", 0.75), (-math.log(4.0), "fake", 0.8)])
def test_a_single_sigmoid_logit_is_the_second_labels(logit: float, label: str, probability: float):
    (answer,) = classifications(torch.tensor([[logit]]), ("fake", "real"), "sigmoid")
    assert answer["label"] == label
    assert answer["probability"] == pytest.approx(probability)
    assert len(answer["top"]) == 2


def test_sigmoid_of_several_logits_is_refused():
    with pytest.raises(ValueError, match="one logit and two labels"):
        classifications(torch.zeros(1, 3), ("a", "b", "c"), "sigmoid")


def test_pngs_keep_every_pixel():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    instance = b64_instance(png(pixels))
    with Image.open(io.BytesIO(base64.b64decode(instance["b64"]))) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_bodies_are_what_is_sent():
    assert json.loads(base64.b64decode(json_case([[1, 2]], []).body_b64)) == {"instances": [[1, 2]]}
    case = raw_case("image/png", b"\x89PNG", [], {"class": "3"})
    assert (case.content_type, base64.b64decode(case.body_b64), case.query) == ("image/png", b"\x89PNG", {"class": "3"})

"""Parameters as JSON and as strings of a query; what is wrong is named."""

from __future__ import annotations

import pytest

from service.errors import BadParameter
from service.parameters import GenerateParameters, PredictParameters, check


def test_defaults_numbers_and_strings():
    assert check(PredictParameters, {}).top_k == 5
    assert check(PredictParameters, {"top_k": "3"}).top_k == 3
    made = check(GenerateParameters, {"n": "2", "class": "7", "seed": 9})
    assert (made.n, made.label, made.seed) == (2, "7", 9)
    assert check(GenerateParameters, {"class": 7}).label == 7


@pytest.mark.parametrize(
    ("model", "sent", "words"),
    [
        (PredictParameters, {"top_k": 0}, "top_k"),
        (PredictParameters, {"top_k": "x"}, "'x'"),
        (PredictParameters, {"nope": 1}, "unknown parameter 'nope'; there are: top_k"),
        (GenerateParameters, {"label": 1}, "there are: n, class, seed"),
        (GenerateParameters, {"n": 0}, "'n'"),
        (GenerateParameters, {"seed": -1}, "'seed'"),
        (GenerateParameters, {"class": [1]}, "'class'"),
    ],
)
def test_what_is_refused(model: type, sent: dict, words: str):
    with pytest.raises(BadParameter) as caught:
        check(model, sent)
    assert words in str(caught.value)

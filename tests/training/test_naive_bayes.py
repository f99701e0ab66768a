"""Naive Bayes against cases worked by hand."""

from __future__ import annotations

import numpy as np

from training.datasets import Sentences, Sst2
from training.naive_bayes import bigram_naive_bayes


def sentences(*labelled: tuple[str, int]) -> Sentences:
    return Sentences(tuple(text for text, _ in labelled), np.array([label for _, label in labelled]))


def test_pairs_of_words_count() -> None:
    """Words alone are balanced between the classes; only the pairs "not good" and "not bad" tell."""
    train = sentences(("not good", 0), ("bad , not", 0), ("not bad", 1), ("good , not", 1))
    bayes = bigram_naive_bayes(Sst2(train, train, sentences(("not good", 0), ("not bad", 1))))
    assert (bayes.validation, bayes.test) == (1.0, 1.0)


def test_smoothing_is_chosen_on_validation_and_test_measured_with_it() -> None:
    """P(b | 0) = s / (2 + 2s) and P(b | 1) = (1 + s) / (1 + 2s), priors 2/3 and 1/3: "b" is of class 1 where
    2 s (1 + 2s) < (1 + s) (2 + 2s), so up to s = (1 + sqrt(5)) / 2, not with 2. "z" is unknown and leaves the priors: class 0."""
    train = sentences(("a", 0), ("a", 0), ("b", 1))
    bayes = bigram_naive_bayes(Sst2(train, sentences(("b", 1), ("a", 0)), sentences(("z", 0), ("b", 1), ("b", 0))))
    assert bayes.validation == 1.0
    assert bayes.test == 2 / 3
    assert bayes.smoothing == 0.25  # the first of three that are equally right

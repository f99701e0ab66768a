"""Naive Bayes against a case worked by hand."""

from __future__ import annotations

import numpy as np

from training.datasets import Sentences
from training.naive_bayes import bigram_naive_bayes


def test_pairs_of_words_count() -> None:
    """Words alone are balanced between the classes; only the pairs "not good" and "not bad" tell."""
    train = Sentences(("not good", "bad , not", "not bad", "good , not"), np.array([0, 0, 1, 1]))
    test = Sentences(("not good", "not bad"), np.array([0, 1]))
    assert bigram_naive_bayes(train, (test, train)) == [1.0, 1.0]


def test_smoothing_and_priors_decide_as_worked_by_hand() -> None:
    # Features "a" (class 0 twice) and "b" (class 1 once), no pairs. An unseen word leaves the priors 2/3 and 1/3.
    # "b": 2/3 * 1/4 = 0.167 for class 0 against 1/3 * 2/3 = 0.222 for class 1.
    train = Sentences(("a", "a", "b"), np.array([0, 0, 1]))
    test = Sentences(("z", "b", "a"), np.array([0, 1, 0]))
    assert bigram_naive_bayes(train, (test,)) == [1.0]

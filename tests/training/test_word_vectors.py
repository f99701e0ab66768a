"""Word vectors against slow, obvious counts on a corpus that fits on a page."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from training.tokens import Encoded
from training.word_vectors import SMOOTHING, WINDOW, VectorOptions, naive_bayes_weights, neighbourhoods, word_vectors

ROWS = [[2, 3, 4, 2, 5, 6, 7], [3, 3, 5], [7, 6, 2, 4], [8, 4], [9]]
LABELS = np.array([1, 0, 1, 0, 0])
VOCABULARY = 10


@pytest.fixture
def sentences() -> Encoded:
    tokens = np.zeros((len(ROWS), 7), np.int64)
    for padded, row in zip(tokens, ROWS, strict=True):
        padded[: len(row)] = row
    return Encoded(tokens, np.array([len(row) for row in ROWS]))


def test_naive_bayes_weights_are_log_count_ratios(sentences: Encoded) -> None:
    weights = naive_bayes_weights(sentences, LABELS, VOCABULARY)
    counts = {0: [1] * VOCABULARY, 1: [1] * VOCABULARY}
    for row, label in zip(sentences.tokens.tolist(), LABELS.tolist(), strict=True):
        for word in set(row):
            counts[label][word] += 1
    for word in range(1, VOCABULARY):
        expected = math.log(counts[1][word] / sum(counts[1])) - math.log(counts[0][word] / sum(counts[0]))
        assert weights[word].item() == pytest.approx(expected, abs=1e-6)
    assert weights[6] > 0 > weights[9]


def test_neighbourhoods_are_the_svd_of_positive_pmi(sentences: Encoded) -> None:
    counts = np.zeros((VOCABULARY, VOCABULARY))
    for row in ROWS:
        for i, word in enumerate(row):
            for j, context in enumerate(row):
                if 0 < abs(i - j) <= WINDOW:
                    counts[word, context] += 1 / abs(i - j)
    joint = counts / counts.sum()
    contexts = counts.sum(0) ** SMOOTHING
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.log(joint / (joint.sum(1, keepdims=True) * contexts / contexts.sum()))
    information = np.where(counts > 0, np.maximum(information, 0), 0)
    left, strength, _ = np.linalg.svd(information)
    expected = left[:, :3] * np.sqrt(strength[:3])
    torch.manual_seed(0)
    actual = neighbourhoods(sentences, VOCABULARY, 3).double().numpy()
    assert actual.std(ddof=1) == pytest.approx(1, abs=1e-5)
    # Singular vectors are defined up to sign: compare what doesn't depend on it.
    np.testing.assert_allclose(actual @ actual.T, expected @ expected.T / expected.std(ddof=1) ** 2, atol=1e-4)


def test_vectors_hold_both_and_padding_is_zero(sentences: Encoded) -> None:
    vectors = word_vectors(sentences, LABELS, VOCABULARY, VectorOptions(4, bayes_scale=0.5, neighbour_scale=0.2))
    assert vectors.shape == (VOCABULARY, 4)
    assert vectors.dtype == torch.float32
    assert not vectors[0].any()
    assert 0.1 < vectors[:, 1:].std() < 0.3
    torch.testing.assert_close(vectors[1:, 0], 0.5 * naive_bayes_weights(sentences, LABELS, VOCABULARY)[1:])

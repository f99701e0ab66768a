"""Word vectors from the training sentences alone: what a small corpus knows about its words before any gradient step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.tokens import PAD_ID, Encoded

WINDOW = 5
SMOOTHING = 0.75
"""Exponent on context counts, which keeps rare contexts from looking informative (Levy, Goldberg & Dagan 2015, TACL 3)."""


@dataclass(frozen=True)
class VectorOptions:
    """How vectors are made: `size` numbers a word, of which the first is its naive Bayes weight times `bayes_scale` and the
    others describe its neighbourhood with standard deviation `neighbour_scale`. Small ones leave training more to say."""

    size: int
    bayes_scale: float
    neighbour_scale: float


def word_vectors(sentences: Encoded, labels: npt.NDArray[np.int64], vocabulary: int, options: VectorOptions) -> Tensor:
    """Vectors float32 (vocabulary, options.size) to start an embedding from; the padding's is zero."""
    vectors = torch.zeros(vocabulary, options.size)
    vectors[:, 0] = options.bayes_scale * naive_bayes_weights(sentences, labels, vocabulary)
    vectors[:, 1:] = options.neighbour_scale * neighbourhoods(sentences, vocabulary, options.size - 1)
    vectors[PAD_ID] = 0.0
    return vectors


def naive_bayes_weights(sentences: Encoded, labels: npt.NDArray[np.int64], vocabulary: int) -> Tensor:
    """log P(word | positive) - log P(word | negative), float32 (vocabulary,), words counted once a sentence, add-one smoothed.

    Wang & Manning 2012 (ACL P12-2018), equation 1.
    """
    counts = np.ones((2, vocabulary))
    for row, label in zip(sentences.tokens, labels, strict=True):
        counts[label, np.unique(row)] += 1
    shares = counts / counts.sum(1, keepdims=True)
    return torch.from_numpy(np.log(shares[1]) - np.log(shares[0])).float()


def neighbourhoods(sentences: Encoded, vocabulary: int, size: int) -> Tensor:
    """Truncated SVD of the positive pointwise mutual information of words within `WINDOW`, float32 (vocabulary, size).

    Levy & Goldberg 2014 (NeurIPS): U sqrt(S), neighbours weighted by 1 / distance. Scaled to a standard deviation of 1.
    """
    pairs, weights = _cooccurrences(sentences.tokens, vocabulary)
    words, contexts = np.divmod(pairs, vocabulary)
    word_share = np.bincount(words, weights, vocabulary) / weights.sum()
    context_share = np.bincount(contexts, weights, vocabulary) ** SMOOTHING
    context_share /= context_share.sum()
    information = np.log(weights / weights.sum() / (word_share[words] * context_share[contexts]))
    positive = information > 0
    places = torch.from_numpy(np.stack([words[positive], contexts[positive]]))
    matrix = torch.sparse_coo_tensor(
        places, torch.from_numpy(information[positive]).float(), (vocabulary, vocabulary), check_invariants=True
    ).coalesce()
    left, strength, _ = torch.svd_lowrank(matrix, q=min(size + 10, vocabulary), niter=4)
    vectors = left[:, :size] * strength[:size].sqrt()
    return vectors / vectors.std()


def _cooccurrences(tokens: npt.NDArray[np.int64], vocabulary: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Pairs as word * vocabulary + context, each once, and the sum of their weights, both directions."""
    keys, weights = [], []
    for distance in range(1, WINDOW + 1):
        left, right = tokens[:, :-distance].ravel(), tokens[:, distance:].ravel()
        inside = right != PAD_ID
        for word, context in ((left, right), (right, left)):
            keys.append(word[inside] * vocabulary + context[inside])
            weights.append(np.full(int(inside.sum()), 1.0 / distance))
    pairs, position = np.unique(np.concatenate(keys), return_inverse=True)
    return pairs, np.bincount(position, np.concatenate(weights)).astype(np.float64)

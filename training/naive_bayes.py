"""Bigram naive Bayes: what counting words and pairs of words reaches on sentences, to be printed beside a network's figure."""

from __future__ import annotations

from collections.abc import Sequence

from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from training.datasets import Sentences


def bigram_naive_bayes(train: Sentences, splits: Sequence[Sentences]) -> list[float]:
    """Accuracy on each of `splits` of multinomial naive Bayes on counts of words and bigrams, add-one smoothed.

    The baseline of Wang & Manning 2012 (ACL P12-2018): nothing is tuned. Sentences are split at spaces, as they are published.
    """
    counts = CountVectorizer(ngram_range=(1, 2), tokenizer=str.split, token_pattern=None)
    model = make_pipeline(counts, MultinomialNB())
    model.fit(train.texts, train.labels)
    return [float(model.score(split.texts, split.labels)) for split in splits]

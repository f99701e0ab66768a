"""Bigram naive Bayes: what counting words and pairs of words reaches on sentences, to be printed beside a network's figure."""

from __future__ import annotations

from dataclasses import dataclass

from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline, make_pipeline

from training.datasets import Sentences, Sst2

SMOOTHINGS = (0.25, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Bayes:
    """Accuracies of naive Bayes with the `smoothing` that was best on validation data."""

    smoothing: float
    validation: float
    test: float


def bigram_naive_bayes(data: Sst2) -> Bayes:
    """Multinomial naive Bayes on counts of words and bigrams (the baseline of Wang & Manning 2012, ACL P12-2018).

    Sentences are split at spaces, as they are published. Test data is touched once, by the chosen smoothing.
    """
    candidates = {smoothing: _fit(data.train, smoothing) for smoothing in SMOOTHINGS}
    scores = {smoothing: _accuracy(model, data.validation) for smoothing, model in candidates.items()}
    best = max(scores, key=lambda smoothing: scores[smoothing])
    return Bayes(best, scores[best], _accuracy(candidates[best], data.test))


def _fit(sentences: Sentences, smoothing: float) -> Pipeline:
    counts = CountVectorizer(ngram_range=(1, 2), tokenizer=str.split, token_pattern=None)
    return make_pipeline(counts, MultinomialNB(alpha=smoothing)).fit(sentences.texts, sentences.labels)


def _accuracy(model: Pipeline, sentences: Sentences) -> float:
    return float(model.score(sentences.texts, sentences.labels))

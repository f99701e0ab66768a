"""Recipe `sst2-gru`: is a film review's sentence positive or negative, bidirectional GRU, about a minute a seed on 2 cores.

Trained from scratch on SST-2's 6,920 training sentences and nothing else: the embedding starts from counts of these very
sentences. The steps are small: one thread (OMP_NUM_THREADS=1) is enough, and on a busy machine much faster than two.
Options and epochs are chosen on the 872 validation sentences; the 1,821 test sentences are touched once a seed,
after that.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from tokenizers import Tokenizer

from training.batches import Rows, loader
from training.bundle import write_bundle
from training.datasets import Sentences, Sst2, load_sst2
from training.evaluate import measure
from training.export import to_onnx
from training.fit import FitError, Fitted, Run, fit, start
from training.length_buckets import bucketed
from training.naive_bayes import bigram_naive_bayes
from training.networks.sst2_gru import Sst2Gru
from training.recipes.sst2_gru_bundle import LABELS, NAME, NEGATIONS, TOKENIZER, Result, Trained, describe, golden, graph
from training.recipes.sst2_gru_card import CURVES, card
from training.reference import sentences as reference_sentences
from training.session import Session, hyperparameters
from training.supervised import Optimisation, Supervised
from training.tokens import UNKNOWN_ID, build_tokenizer, encode
from training.word_vectors import VectorOptions, word_vectors


@dataclass(frozen=True)
class Config:
    epochs: int = field(default=4, metadata={"help": "passes over the training sentences"})
    batch_size: int = field(default=64, metadata={"help": "sentences a step"})
    learning_rate: float = field(default=2e-3, metadata={"help": "highest of the cycle"})
    weight_decay: float = field(default=0.01, metadata={"help": "decoupled (AdamW)"})
    l1: float = field(default=0.0, metadata={"help": "weight of the L1 penalty"})
    embedding_size: int = field(default=64, metadata={"help": "numbers a word"})
    bayes_scale: float = field(default=0.4, metadata={"help": "of the number that starts as the word's naive Bayes weight"})
    neighbour_scale: float = field(default=0.2, metadata={"help": "of the numbers that start as the word's neighbourhood"})
    hidden: int = field(default=64, metadata={"help": "numbers a direction of the GRU"})
    min_count: int = field(default=2, metadata={"help": "rarer words are unknown words"})
    word_dropout: float = field(default=0.2, metadata={"help": "share of words replaced by the unknown word"})
    embedding_dropout: float = field(default=0.5, metadata={"help": "share of the embedding's numbers dropped"})
    dropout: float = field(default=0.5, metadata={"help": "share of the pooled states dropped"})
    ema: float | None = field(default=0.99, metadata={"help": "decay of the averaged weights"})
    label_smoothing: float = field(default=0.0, metadata={"help": "share of the target given to both labels alike"})
    gradient_clip: float = field(default=1.0, metadata={"help": "largest norm of a step's gradient"})
    seeds: int = field(default=1, metadata={"help": "runs, with consecutive seeds; the one with the lowest validation loss is exported"})


def train(config: Config, session: Session) -> list[Path]:
    """Trains, measures and exports; returns the bundle's folder."""
    if config.seeds < 1:
        raise FitError(f"seeds: at least one run is needed, got {config.seeds}")
    data = load_sst2(session.data)
    tokenizer = build_tokenizer(data.train.texts, config.min_count)
    sessions = [replace(session, seed=session.seed + number) for number in range(config.seeds)]
    results = tuple(_run(config, one, data, tokenizer) for one in sessions)
    trained = Trained(hyperparameters(config), session, tokenizer, results, bigram_naive_bayes(data))
    _report(trained)
    return [export(trained, data.train)]


def _run(config: Config, session: Session, data: Sst2, tokenizer: Tokenizer) -> Result:
    fitted = fit_sentences(config, session, data.train, data.validation, tokenizer)
    net = fitted.task.net
    assert isinstance(net, Sst2Gru)
    figures = {
        name: measure(net, loader(rows(tokenizer, sentences), 256), len(LABELS), name)
        for name, sentences in {"validation": data.validation, "test": data.test, **by_negation(data.validation)}.items()
    }
    return Result(session.seed, net, fitted, **figures)


def by_negation(sentences: Sentences) -> dict[str, Sentences]:
    """The sentences with a negation (`negated`), and the others (`plain`)."""
    negated = np.array([not set(NEGATIONS).isdisjoint(text.split()) for text in sentences.texts])
    return {
        name: Sentences(tuple(text for text, kept in zip(sentences.texts, chosen, strict=True) if kept), sentences.labels[chosen])
        for name, chosen in (("negated", negated), ("plain", ~negated))
    }


def _report(trained: Trained) -> None:
    for result in trained.results:
        print(
            f"seed {result.seed}: epoch {result.fitted.epoch + 1}, validation accuracy {result.validation.accuracy:.4f} "
            f"(n={result.validation.n}), test accuracy {result.test.accuracy:.4f} (n={result.test.n})"
        )
    print(
        f"mean test accuracy of {len(trained.results)} seed(s) {fmean(trained.test_accuracies):.4f}; exported: seed {trained.chosen.seed}"
    )
    print(f"bigram naive Bayes: validation {trained.bayes.validation:.4f}, test {trained.bayes.test:.4f}")


def fit_sentences(config: Config, session: Session, train: Sentences, validation: Sentences, tokenizer: Tokenizer) -> Fitted[Supervised]:
    """The fitted task, with the weights of the epoch of lowest validation loss."""
    run = Run.of(session, f"{NAME}-seed{session.seed}", config, epochs=config.epochs, ema=config.ema, gradient_clip=config.gradient_clip)
    start(run)
    options = VectorOptions(config.embedding_size, config.bayes_scale, config.neighbour_scale)
    vectors = word_vectors(encode(tokenizer, train.texts), train.labels, tokenizer.get_vocab_size(), options)
    net = Sst2Gru(vectors, config.hidden, UNKNOWN_ID, config.word_dropout, config.embedding_dropout, config.dropout)
    optimisation = Optimisation(config.learning_rate, config.weight_decay, config.l1, "onecycle", config.label_smoothing)
    task = Supervised(net, len(LABELS), optimisation)
    return fit(task, bucketed(rows(tokenizer, train), config.batch_size, session.seed), loader(rows(tokenizer, validation), 256), run)


def rows(tokenizer: Tokenizer, sentences: Sentences) -> Rows:
    """Tokens (N, T), lengths (N,) and labels (N,), all int64."""
    encoded = encode(tokenizer, sentences.texts)
    return Rows(*(torch.from_numpy(column) for column in (encoded.tokens, encoded.lengths, sentences.labels)))


def export(trained: Trained, train_set: Sentences) -> Path:
    """Writes the bundle of the chosen run; returns its folder."""
    net, tokenizer = trained.chosen.net, trained.tokenizer
    return write_bundle(
        trained.session.out,
        to_onnx(graph(net, tokenizer.get_vocab_size())),
        partial(describe, trained),
        golden(net, tokenizer),
        partial(card, trained),
        read_by_service={TOKENIZER: tokenizer.to_str(pretty=True).encode()},
        plots={CURVES: trained.chosen.fitted.run.path / CURVES},
        reference=reference_sentences(train_set, tokenizer),
    )

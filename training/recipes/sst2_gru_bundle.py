"""What finished runs of `sst2-gru` become: the graph, manifest and golden cases of the chosen one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from service.manifest import Baseline, Batching, Explain, Golden, Input, Manifest, Metric, Output, Provenance, TextPolicy
from training.bundle import multiply_adds, parameter_count, versions
from training.datasets import SST2
from training.evaluate import Figures
from training.export import Graph, Sizes
from training.fit import Fitted
from training.golden import classifications, json_case, raw_case
from training.naive_bayes import Bayes
from training.networks.sst2_gru import EMBEDDED, Sst2Gru
from training.session import Session
from training.supervised import Supervised
from training.tokens import PAD_ID, encode

NAME = "sst2-gru"
VERSION = 1
LABELS = ("negative", "positive")
TOKENIZER = "tokenizer.json"
CURVES = "curves.png"

MAX_LENGTH = 400
"""Tokens; the longest training sentence has 51."""

ROW = 20
"""Words of the row whose multiply-adds are stated; the median sentence has 18."""

GOLDEN_TEXTS = (
    "A touching, funny film that doesn't miss a beat.",
    "It’s 90 minutes long (and feels like 900): the plot can’t decide what it wants to be.",
    "I wasn't bored for a second.",
)

NEGATIONS = ("n't", "no", "not", "never", "nothing", "neither", "nor", "without")
"""Words that may turn a sentence: the card states the accuracy with and without them."""


@dataclass(frozen=True)
class Result:
    """One finished run: the network with the weights of the chosen epoch, and its figures."""

    seed: int
    net: Sst2Gru
    fitted: Fitted[Supervised]
    validation: Figures
    test: Figures
    negated: Figures
    """On the validation sentences with one of `NEGATIONS`; `plain`: on the others."""
    plain: Figures


@dataclass(frozen=True)
class Trained:
    """All runs of a session, and bigram naive Bayes beside them."""

    hyperparameters: dict[str, str | int | float | bool]
    session: Session
    tokenizer: Tokenizer
    results: tuple[Result, ...]
    bayes: Bayes

    @property
    def chosen(self) -> Result:
        """The run of lowest validation loss."""
        return min(self.results, key=lambda result: result.validation.loss)

    @property
    def test_accuracies(self) -> list[float]:
        return [result.test.accuracy for result in self.results]


def graph(net: Sst2Gru, vocabulary: int) -> Graph:
    """What to export, and the rows it is tried on: of different lengths, padded as the service pads them."""

    def example(sizes: Sizes) -> tuple[Tensor, Tensor]:
        rows, time = sizes["batch"], sizes["time"]
        lengths = torch.tensor([max(1, time - time * row // rows) for row in range(rows)])
        tokens = torch.arange(rows * time).reshape(rows, time) * 37 % (vocabulary - 1) + 1
        return tokens.masked_fill(torch.arange(time) >= lengths[:, None], PAD_ID), lengths

    return Graph(net.exportable(), {"tokens": {0: "batch", 1: "time"}, "lengths": {0: "batch"}}, ("logits",), example)


@torch.inference_mode()
def answers(net: Sst2Gru, tokenizer: Tokenizer, texts: Sequence[str]) -> list[dict[str, Any]]:
    """The contract's predictions for texts as people type them."""
    encoded = encode(tokenizer, texts)
    return classifications(net.eval()(torch.from_numpy(encoded.tokens), torch.from_numpy(encoded.lengths)), LABELS)


def golden(net: Sst2Gru, tokenizer: Tokenizer) -> Golden:
    """Two of the bodies that a client sends: a raw text, and texts of different lengths in JSON."""
    expected = answers(net, tokenizer, GOLDEN_TEXTS)
    return Golden(
        cases=(
            raw_case("text/plain; charset=utf-8", GOLDEN_TEXTS[0].encode(), expected[:1]),
            json_case(GOLDEN_TEXTS[1:], expected[1:]),
        )
    )


def describe(trained: Trained, files: dict[str, str]) -> Manifest:
    """The manifest, from the hashes of the bundle's files."""
    chosen = trained.chosen
    return Manifest(
        name=NAME,
        version=VERSION,
        title="Sentiment of film reviews (bidirectional GRU)",
        description="Says whether an English sentence about a film speaks well or ill of it.",
        task="classification",
        licence="Apache-2.0",
        inputs=(
            Input(
                name="tokens",
                codec="text",
                dtype="int64",
                shape=(None,),
                range=(0, trained.tokenizer.get_vocab_size() - 1),
                text=TextPolicy(tokenizer=TOKENIZER, max_length=MAX_LENGTH, beyond="truncate", pad_id=PAD_ID, lengths="lengths"),
            ),
        ),
        outputs=(Output(name="logits", kind="classes", dtype="float32", shape=(2,), labels=LABELS, activation="softmax"),),
        batching=Batching(max=32),
        explain=Explain(
            output="logit",
            attribute_at={"tokens": EMBEDDED},
            baseline={"tokens": Baseline(kind="token", value=PAD_ID)},
        ),
        metrics=metrics(trained),
        data=(SST2.manifest_entry(),),
        provenance=Provenance(
            recipe=f"whyserve train {NAME} --seeds {len(trained.results)}",
            seed=chosen.seed,
            versions=versions(),
            parameters=parameter_count(chosen.net),
            multiply_adds=multiply_adds(chosen.net, torch.ones(1, ROW, dtype=torch.int64), torch.tensor([ROW])),
            hyperparameters=trained.hyperparameters | {"epoch_chosen": chosen.fitted.epoch + 1},
        ),
        files=files,
    )


def metrics(trained: Trained) -> tuple[Metric, ...]:
    """Of the exported run, of all runs, and of naive Bayes."""
    chosen, accuracies = trained.chosen, trained.test_accuracies
    n = chosen.test.n
    several = f"mean of {len(accuracies)} seeds: {', '.join(f'{accuracy:.4f}' for accuracy in accuracies)}"
    bayes = f"multinomial naive Bayes on words and bigrams, smoothing {trained.bayes.smoothing:g} chosen on validation; for comparison"
    return (
        *chosen.test.metrics(chosen.seed),
        *chosen.validation.metrics(chosen.seed),
        Metric(name="mean_accuracy", value=round(fmean(accuracies), 6), split="test", n=n, note=several),
        Metric(name="naive_bayes_accuracy", value=round(trained.bayes.test, 6), split="test", n=n, note=bayes),
        Metric(
            name="naive_bayes_accuracy", value=round(trained.bayes.validation, 6), split="validation", n=chosen.validation.n, note=bayes
        ),
    )

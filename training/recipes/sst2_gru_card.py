"""The model card of `sst2-gru`: every figure in it comes from the runs themselves."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

from tokenizers import Tokenizer

from service.manifest import Manifest
from training.card import table, write_card
from training.networks.sst2_gru import Sst2Gru
from training.recipes.sst2_gru_bundle import LABELS, MAX_LENGTH, NEGATIONS, ROW, TOKENIZER, Result, Trained, answers

CURVES = "curves.png"

PROBES = (
    ("A wonderful film.", "plain"),
    ("A dreadful film.", "plain"),
    ("Not a good film.", "negation"),
    ("Not a bad film.", "negation"),
    ("It isn't boring at all.", "negation"),
    ("I expected to hate it, but I loved it.", "contrast"),
    ("The actors are brilliant; the script wastes them.", "contrast"),
    ("Great. Another sequel nobody asked for.", "sarcasm"),
    ("The soup was cold and the waiter was rude.", "another subject"),
    ("Der Film ist großartig.", "another language: unknown words"),
)
"""Texts for the card, with what makes them hard."""

SEES = """\
Words. `{tokenizer}` brings a text to the form of the training text (Penn Treebank: `doesn't` is `does n't`, a bracket is `lrb`;
lower case; full stops and dashes vanish), so a text may be sent as it is typed, and the offsets in an explanation refer to it
as sent. Of {entries:,} entries the first two are padding and the unknown word; words seen once in training are unknown words.
Texts beyond {longest} tokens are cut. Each row is run over its own length, also backwards, so padding never changes an answer.
An explanation starts from padding in place of every word: the zero vector, which says nothing."""

TRAINED = """\
![learning curves]({curves})

On the 6,920 training sentences and nothing else: no pretrained vectors, no other reviews. The embedding starts from counts of
these sentences: one number a word is its naive Bayes weight, log P(word | positive) - log P(word | negative), the others are a
truncated SVD of the positive pointwise mutual information of neighbouring words. All of them are then trained. Dropout acts in
training only, so training loss may lie above validation loss. The epoch of lowest validation loss is kept (here {epoch} of
{epochs}), and of several seeds the run of lowest validation loss. Multiply-adds are those of a sentence of {words} words."""

BAYES = """\
Naive Bayes on words and pairs of words is hard to beat with so few sentences: it trains in under a second, and a network from
scratch is no clear step above it."""

RERUN = "a rerun with the same seed and number of threads gives the same figures."

FAILS = """\
It knows English sentences about films, as critics wrote them around the year 2000, and it weighs words more than it reads. A
text that is about something else, neutral or in another language gets one of the two labels all the same. Of the validation
sentences it judges {negated:.1%} of the {n_negated} with a negation ({negations}) rightly, {plain:.1%} of the {n_plain} others.
What it says of a few texts that people try first:"""


def card(trained: Trained, manifest: Manifest) -> str:
    """The model card."""
    chosen = trained.chosen
    confusion = [(f"**{label}**", *row) for label, row in zip(LABELS, chosen.test.confusion.tolist(), strict=True)]
    return write_card(
        manifest,
        [
            ("Beside naive Bayes", _comparison(trained)),
            (
                "Confusion on the test sentences",
                "Row: the true label; column: the label given.\n\n" + table(("", *LABELS), confusion),
            ),
            ("What it sees", SEES.format(tokenizer=TOKENIZER, entries=trained.tokenizer.get_vocab_size(), longest=MAX_LENGTH)),
            (
                "How it was trained",
                TRAINED.format(curves=CURVES, epoch=chosen.fitted.epoch + 1, epochs=trained.hyperparameters["epochs"], words=ROW),
            ),
            ("Where it fails", _fails(chosen) + "\n\n" + _probes(chosen.net, trained.tokenizer)),
        ],
    )


def _comparison(trained: Trained) -> str:
    """The runs and naive Bayes in one table, and how far apart two figures must lie to mean something."""
    rows: list[Sequence[object]] = []
    for result in trained.results:
        name = f"GRU, seed {result.seed}" + (" (this bundle)" if result is trained.chosen else "")
        rows.append((name, result.fitted.epoch + 1, f"{result.validation.accuracy:.2%}", f"{result.test.accuracy:.2%}"))
    validation = fmean(result.validation.accuracy for result in trained.results)
    rows.append((f"**GRU, mean of {len(rows)}**", "", f"{validation:.2%}", f"**{fmean(trained.test_accuracies):.2%}**"))
    rows.append(("bigram naive Bayes", "", f"{trained.bayes.validation:.2%}", f"{trained.bayes.test:.2%}"))
    n = trained.chosen.test.n
    error = (trained.bayes.test * (1 - trained.bayes.test) / n) ** 0.5
    noise = [f"{n:,} sentences measure an accuracy to ±{error:.2%} (standard error)."]
    if len(trained.results) > 1:
        noise.append(f"From seed to seed it has a standard deviation of {stdev(trained.test_accuracies):.2%}; " + RERUN)
    return "\n\n".join((table(("model", "epoch", "validation accuracy", "test accuracy"), rows), BAYES, " ".join(noise)))


def _fails(result: Result) -> str:
    negated, plain = result.negated, result.plain
    return FAILS.format(
        negated=negated.accuracy, n_negated=negated.n, plain=plain.accuracy, n_plain=plain.n, negations=", ".join(NEGATIONS)
    )


def _probes(net: Sst2Gru, tokenizer: Tokenizer) -> str:
    said = answers(net, tokenizer, [text for text, _ in PROBES])
    rows = [(text, why, f"{answer['label']} ({answer['probability']:.2f})") for (text, why), answer in zip(PROBES, said, strict=True)]
    return table(("text", "what is hard", "said"), rows)

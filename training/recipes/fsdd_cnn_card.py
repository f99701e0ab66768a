"""The model card of `fsdd-cnn`: what its figures say, and what they don't."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.manifest import Manifest
from training.card import table, write_card
from training.evaluate import Figures


@dataclass(frozen=True)
class Unheard:
    """What a network that was trained without a speaker makes of that speaker's `n` recordings."""

    speaker: str
    accuracy: float
    n: int


@dataclass(frozen=True)
class Story:
    """What the card tells beside the manifest."""

    labels: tuple[str, ...]
    test: Figures
    epoch: int
    """The one chosen, counted from 1."""
    epochs: int
    unheard: tuple[Unheard, ...]
    curves: str
    sample: str
    """Names of the files beside the card; `recording` is the sample's own in the dataset."""
    recording: str


def interval(accuracy: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % confidence interval of a share; unlike the standard error it says something where nothing was wrong."""
    z = 1.96
    centre, spread = accuracy + z * z / (2 * n), z * (accuracy * (1 - accuracy) / n + z * z / (4 * n * n)) ** 0.5
    return (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)


def card(story: Story, manifest: Manifest) -> str:
    """The model card."""
    low, high = interval(story.test.accuracy, story.test.n)
    confusion = [(f"**{label}**", *row) for label, row in zip(story.labels, story.test.confusion.tolist(), strict=True)]
    sections = [
        (
            "What it hears",
            "One second of sound at 8 kHz, samples -1 to 1; a shorter sound is padded with silence, a longer one cut, another rate "
            "resampled, stereo mixed. The spectrogram is part of the graph, so attributions refer to the samples. "
            "An explanation starts from silence.",
        ),
        ("Confusion on the test recordings", "Row: the digit spoken; column: the digit said.\n\n" + table(("", *story.labels), confusion)),
        (
            "How it was trained",
            f"![learning curves]({story.curves})\n\nTraining recordings are distorted anew in every epoch (moved in time, played up to "
            "13 % faster or slower, up to 10 dB louder or softer, under faint noise). The validated and exported weights are a running "
            f"average. Epoch {story.epoch} of {story.epochs} had the lowest validation loss; the test recordings "
            f"were measured once, after that choice. 95 % confidence interval of the test accuracy: {low:.1%} to {high:.1%} "
            f"({story.test.n} recordings).",
        ),
        (
            "Where it fails",
            "The official split has the same six speakers in training and test: the test figures say how well it hears *them* say a "
            "digit once more, not how well it hears somebody new. It knows single English digits only: noise and other "
            "words get one of the ten labels all the same." + _unheard_table(story.unheard),
        ),
        (
            "The recordings in this folder",
            f"`{story.sample}` ({story.recording}) and the recordings inside `golden.json` are unchanged files of the Free Spoken Digit "
            "Dataset (Zohar Jackson, César Souza, Jason Flaks, Yuxin Pan, Hereman Nicolas, Adhish Thite), CC BY-SA 4.0.",
        ),
    ]
    return write_card(manifest, sections)


def _unheard_table(unheard: Sequence[Unheard]) -> str:
    if not unheard:
        return ""
    rows = [(each.speaker, f"{each.accuracy:.1%}", each.n) for each in unheard]
    return " The same network trained on five of the speakers, measured on all recordings of the sixth:\n\n" + table(
        ("speaker left out", "accuracy", "recordings"), rows
    )

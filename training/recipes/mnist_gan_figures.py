"""What the recipe `mnist-gan` measures: drawn digits against real ones, and what the discriminator tells of either."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.adversarial import Adversarial
from training.datasets import Images, Mnist
from training.fit import Fitted
from training.frechet import Likeness, frechet_distance, likeness
from training.judge import Judge
from training.networks.mnist_gan import CLASSES, LATENT, Discriminator, Generator
from training.session import Session

ROWS = 1000
"""Passed through a network at once."""


@dataclass(frozen=True)
class Figures:
    """What was measured on the test digits and on as many drawn ones."""

    digits: int
    likeness: Likeness
    frechet_of_real_halves: float
    """Between two disjoint sets of real training digits, each of that size: what a perfect generator would reach."""
    frechet_of_test_and_training: float
    """Between the test digits and as many training digits: the judge was trained on the latter."""
    real_taken_for_real: float
    drawn_taken_for_drawn: float
    real_of_another_class_refused: float
    """Share of real digits that the discriminator takes for drawn ones when told a wrong class."""

    @property
    def discriminator_accuracy(self) -> float:
        """Over real and drawn digits, as many of the one as of the other."""
        return (self.real_taken_for_real + self.drawn_taken_for_drawn) / 2


@dataclass(frozen=True)
class Result:
    """What a finished training hands to the export. `drawn` float32 (N, 1, 28, 28) holds one digit for each test label."""

    generator: Generator
    discriminator: Discriminator
    fitted: Fitted[Adversarial]
    hyperparameters: dict[str, str | int | float | bool]
    session: Session
    figures: Figures
    drawn: Tensor
    test: Images


def pixels(images: Images) -> Tensor:
    """uint8 (N, 1, 28, 28)."""
    return torch.from_numpy(images.pixels.copy()).unsqueeze(1)


@torch.inference_mode()
def draw(generator: Generator, labels: Tensor, seed: int) -> Tensor:
    """A digit of each class of `labels` int64 (N,): float32 (N, 1, 28, 28), pixels 0 to 255."""
    latent = torch.randn(len(labels), LATENT, generator=torch.Generator().manual_seed(seed))
    return torch.cat([generator.eval()(latent[rows], labels[rows]) for rows in chunks(len(labels))])


@torch.inference_mode()
def verdicts(discriminator: Discriminator, images: Tensor, labels: Tensor) -> Tensor:
    """The discriminator's logits, float32 (N,), of `images` (N, 1, 28, 28) as digits of the classes `labels` (N,)."""
    return torch.cat([discriminator.eval()(images[rows].float(), labels[rows])[:, 0] for rows in chunks(len(labels))])


def chunks(size: int) -> list[slice]:
    return [slice(start, start + ROWS) for start in range(0, size, ROWS)]


def measure(discriminator: Discriminator, drawn: Tensor, judge: Judge, data: Mnist) -> Figures:
    """Compares `drawn` float32 (N, 1, 28, 28), one for each test label, with the test digits."""
    labels = torch.from_numpy(data.test.labels)
    size = len(labels)
    training = data.train.take(np.random.default_rng(0).permutation(len(data.train))[: 2 * size])
    seen = judge.see(pixels(training), torch.from_numpy(training.labels))
    real = judge.see(pixels(data.test), labels)
    wrong = (labels + 1 + torch.arange(size) % (CLASSES - 1)) % CLASSES
    return Figures(
        digits=size,
        likeness=likeness(judge.see(drawn, labels), real, CLASSES),
        frechet_of_real_halves=frechet_distance(seen.features[:size], seen.features[size:]),
        frechet_of_test_and_training=frechet_distance(real.features, seen.features[:size]),
        real_taken_for_real=share(verdicts(discriminator, pixels(data.test), labels) > 0),
        drawn_taken_for_drawn=share(verdicts(discriminator, drawn, labels) <= 0),
        real_of_another_class_refused=share(verdicts(discriminator, pixels(data.test), wrong) <= 0),
    )


def share(which: Tensor) -> float:
    """Of the true ones among `which` bool (N,)."""
    return float(which.double().mean())


def report(figures: Figures) -> str:
    """The figures in words, a line each."""
    like = figures.likeness
    ratios = " ".join(f"{ratio:.2f}" for ratio in like.variance_ratios)
    return "\n".join(
        (
            f"test, {figures.digits} drawn digits: {like.recognised:.4f} recognised as asked (worst class {like.recognised_worst:.4f})",
            f"feature variance over the real digits', smallest {like.variance_ratio:.3f}; by class: {ratios}",
            f"Fréchet distance to the test digits {like.frechet:.3f}; two real halves {figures.frechet_of_real_halves:.3f}, "
            f"test and training digits {figures.frechet_of_test_and_training:.3f}",
            f"discriminator: real taken for real {figures.real_taken_for_real:.3f}, drawn for drawn {figures.drawn_taken_for_drawn:.3f}, "
            f"real of another class refused {figures.real_of_another_class_refused:.3f}",
        )
    )

"""Pictures and model cards of the recipe `mnist-gan`."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from service.manifest import Manifest
from training.card import table, write_card
from training.networks.mnist_gan import CLASSES
from training.recipes.mnist_gan_figures import Result, pixels, verdicts

LABELS = tuple("0123456789")
ONEHOT = "class_onehot"
"""The float tensor of the class in both graphs, (N, 10): where its attribution is taken."""

CURVES, SAMPLES = "curves.png", "samples.png"
COLUMNS = 12
"""Of the pictures in the cards."""


def by_class(result: Result) -> npt.NDArray[np.uint8]:
    """The first drawn digits of each class, a row a class: uint8 (10 * COLUMNS, 28, 28). Not chosen by hand."""
    rows = [np.flatnonzero(result.test.labels == k)[:COLUMNS] for k in range(CLASSES)]
    return to_pixels(result.drawn[np.concatenate(rows)])


def extremes(result: Result) -> npt.NDArray[np.uint8]:
    """Digits that the discriminator is surest about, uint8 (4 * COLUMNS, 28, 28): real ones most and least real, drawn ones
    most and least real."""
    labels = torch.from_numpy(result.test.labels)
    rows = []
    for images in (pixels(result.test), result.drawn):
        order = verdicts(result.discriminator, images, labels).argsort(descending=True)
        rows += [images[order[:COLUMNS]].float(), images[order[-COLUMNS:]].float()]
    return to_pixels(torch.cat(rows))


def to_pixels(images: Tensor) -> npt.NDArray[np.uint8]:
    """Float (N, 1, 28, 28), 0 to 255, to uint8 (N, 28, 28)."""
    return images[:, 0].round().clamp(0, 255).byte().numpy()


def grid(digits: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Digits uint8 (R * COLUMNS, 28, 28) as one picture of R rows, twice enlarged."""
    rows = digits.reshape(-1, COLUMNS, 28, 28).transpose(0, 2, 1, 3).reshape(-1, COLUMNS * 28)
    return rows.repeat(2, axis=0).repeat(2, axis=1)


def fewer_colours(plot: Path) -> bytes:
    """A plot as a PNG of 32 colours, half the size: five panels are more than a bundle should carry otherwise."""
    file = io.BytesIO()
    with Image.open(plot) as image:
        image.convert("RGB").quantize(32, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


def card_generator(result: Result, manifest: Manifest) -> str:
    like = result.figures.likeness
    return write_card(
        manifest,
        [
            (
                "What it draws",
                f"![drawn digits]({SAMPLES})\n\nA row a class, the first {COLUMNS} of the {result.figures.digits:,} measured digits, "
                "not chosen by hand. Send `latent` (64 standard normal numbers) and `class`, or let the service draw them.",
            ),
            (
                "Does it draw all hands?",
                "Feature variance of the drawn digits over that of the real test digits, by class; well below 1, a generator repeats "
                "itself.\n\n" + table(LABELS, [[f"{ratio:.2f}" for ratio in like.variance_ratios]]),
            ),
            (
                "Where it fails",
                f"{1 - like.recognised:.1%} of the drawn digits are not recognised as asked ({1 - like.recognised_worst:.1%} of the worst "
                "class): fragments, and shapes between two digits.",
            ),
            (
                "What is explained",
                "How far each number of the latent and the class drove a pixel, or the sum over a region. The class is attributed at the "
                f"one-hot tensor `{ONEHOT}`, from a baseline that prefers no class; the latent from zero, the middle of its distribution.",
            ),
            ("How it was trained", training_notes(result)),
        ],
    )


def card_discriminator(result: Result, manifest: Manifest) -> str:
    figures = result.figures
    return write_card(
        manifest,
        [
            (
                "What it finds real",
                f"![the surest verdicts]({SAMPLES})\n\nFrom above: the real test digits that it finds most real, those that it finds least "
                "real, the drawn digits that it finds most real, and least real.",
            ),
            (
                "How to read it",
                "It was made to teach the generator, not to detect forgeries: it knows this generator's digits only, and the better the "
                "generator, the nearer its accuracy is to chance. It has met real digits with their own class and drawn ones with the "
                "class asked for, never a digit under a wrong name, so it doesn't check the name: "
                f"{figures.real_of_another_class_refused:.0%} of the real digits are refused under a wrong class, "
                f"{1 - figures.real_taken_for_real:.0%} under their own.",
            ),
            ("How it was trained", training_notes(result)),
        ],
    )


def training_notes(result: Result) -> str:
    options = result.hyperparameters
    return (
        f"![learning curves]({CURVES})\n\nGenerator and discriminator take turns on batches of {options['batch_size']} digits "
        "(non-saturating loss, R1 penalty, projection discriminator). The generator kept is a moving average of its weights, with "
        f"BatchNorm's statistics taken anew. Epoch {result.fitted.epoch + 1} of {options['epochs']} was nearest to the validation "
        "digits; `frechet`, `recognised` and `variance` (of the class with the smallest ratio) are measured on those in every epoch."
    )

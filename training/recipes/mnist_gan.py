"""Recipe `mnist-gan`: a conditional DCGAN that draws handwritten digits, at most forty minutes on 2 cores
(36 measured, on two cores that were busy with other work as well).

Two networks, two bundles: `mnist-generator` draws the digit asked for, `mnist-discriminator` tells drawn from real ones.
The classifier `mnist-cnn` is the judge: it must lie in the model repository that the bundles go to. The epoch is the one of
the lowest Fréchet distance to 5,000 real digits held out of the training set; the 10,000 test digits are touched once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from training.adversarial import Adversarial, Contest
from training.batches import Batch, Rows, loader
from training.datasets import Images, Mnist, load_mnist
from training.fit import Fitted, Run, fit, start
from training.judge import Judge
from training.networks.mnist_gan import Discriminator, Generator
from training.recipes.mnist_gan_bundles import NAME, export
from training.recipes.mnist_gan_figures import Result, draw, measure, pixels, report
from training.session import Session, hyperparameters

JUDGE = Path("mnist-cnn/1")
"""Below the model repository."""

TEST_SEED = 1_000_000
"""Added to the run's seed: the latents that are measured are none that the epoch was chosen on."""


@dataclass(frozen=True)
class Config:
    epochs: int = field(default=10, metadata={"help": "passes over the training digits"})
    batch_size: int = field(default=64, metadata={"help": "real digits a step, and as many drawn ones"})
    generator_rate: float = field(default=4e-4, metadata={"help": "the generator's learning rate (Adam)"})
    discriminator_rate: float = field(default=4e-4, metadata={"help": "the discriminator's learning rate (Adam)"})
    gradient_penalty: float = field(default=0.5, metadata={"help": "gamma of R1, for pixels in [-1, 1]"})
    penalty_every: int = field(default=16, metadata={"help": "steps from one R1 penalty to the next"})
    average_decay: float = field(default=0.9985, metadata={"help": "of the moving average of the generator's weights, a step"})

    @property
    def contest(self) -> Contest:
        return Contest(self.generator_rate, self.discriminator_rate, self.gradient_penalty, self.penalty_every, self.average_decay)


def train(config: Config, session: Session) -> list[Path]:
    """Trains, measures and exports; returns the two bundles' folders."""
    judge = Judge(session.out / JUDGE)
    data = load_mnist(session.data)
    fitted = fit_digits(config, session, judge, data)
    generator, discriminator = fitted.task.kept, fitted.task.discriminator
    drawn = draw(generator, torch.from_numpy(data.test.labels), session.seed + TEST_SEED)
    figures = measure(discriminator, drawn, judge, data)
    print(f"epoch {fitted.epoch + 1} chosen on validation, Fréchet distance {fitted.monitored:.3f}")
    print(report(figures))
    options = hyperparameters(config) | {"judge_sha256": judge.sha256}
    return export(Result(generator, discriminator, fitted, options, session, figures, drawn, data.test), data.train)


def fit_digits(config: Config, session: Session, judge: Judge, data: Mnist) -> Fitted[Adversarial]:
    """The fitted task, with the weights of the epoch whose drawn digits are nearest to the validation digits."""
    run = Run.of(session, NAME, config, epochs=config.epochs, monitor="validation_frechet")
    start(run)
    task = Adversarial(Generator(), Discriminator(), judge, config.contest)
    return fit(task, batches(data.train, config.batch_size, session.seed), batches(data.validation), run)


def batches(images: Images, size: int = 1000, shuffle_seed: int | None = None) -> DataLoader[Batch]:
    return loader(Rows(pixels(images), torch.from_numpy(images.labels)), size, shuffle_seed=shuffle_seed)

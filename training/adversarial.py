"""The adversarial task: a generator and a discriminator trained against each other, judged by a classifier each epoch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.batches import Batch
from training.frechet import likeness
from training.judge import Judge, Seen
from training.networks.mnist_gan import CLASSES, LATENT, Discriminator, Generator

VALIDATION_SEED = 20
"""Of the latents that are judged each epoch: the same ones, so that the curve shows the generator and not the draw."""
SETTLING_ROWS = 10_000
SETTLING_BATCH = 500


@dataclass(frozen=True)
class Contest:
    """How the two networks are trained against each other."""

    generator_rate: float = 4e-4
    discriminator_rate: float = 4e-4
    gradient_penalty: float = 0.5
    """gamma of R1: punishes a discriminator that is steep at real digits (Mescheder et al. 2018, arXiv:1801.04406)."""
    penalty_every: int = 16
    """The penalty costs as much as a step: it is taken every so many steps and then weighs as much as it would have in
    all of them (Karras et al. 2020, arXiv:1912.04958, lazy regularisation)."""
    average_decay: float = 0.9985
    """Of the moving average of the generator's weights, which is the generator that is kept (Yazıcı et al. 2019,
    arXiv:1806.04498)."""


class Adversarial(LightningModule):
    """Non-saturating logistic GAN (Goodfellow et al. 2014, arXiv:1406.2661) on batches of image uint8 (N, 1, 28, 28) and
    class int64 (N,).

    Logs `train_loss_generator`, `train_loss_discriminator` and, once an epoch for the averaged generator, the same
    losses on validation digits and `validation_frechet`, `validation_recognised` and `validation_variance` as
    `training.frechet.Likeness` defines them.
    """

    def __init__(self, generator: Generator, discriminator: Discriminator, judge: Judge, contest: Contest) -> None:
        super().__init__()
        self.automatic_optimization = False  # two optimisers take turns
        self.generator = generator
        self.discriminator = discriminator
        average = get_ema_multi_avg_fn(contest.average_decay)  # type: ignore[no-untyped-call]
        self.averaged = AveragedModel(generator, multi_avg_fn=average).requires_grad_(False)
        self.judge = judge
        self.contest = contest
        self.real: list[Seen] = []
        self.generated: list[Seen] = []

    @property
    def kept(self) -> Generator:
        """The generator of averaged weights."""
        return cast(Generator, self.averaged.module)

    def training_step(self, batch: Batch, index: int) -> None:
        image, label = batch[0].float(), batch[1]
        generator_optimiser, discriminator_optimiser = cast(list[LightningOptimizer], self.optimizers())
        fake = self.generator(torch.randn(len(label), LATENT, device=self.device), label)

        loss_discriminator = self._loss_discriminator(image, fake.detach(), label)
        penalty = self._penalty(image, label) if index % self.contest.penalty_every == 0 else 0.0
        discriminator_optimiser.zero_grad()
        self.manual_backward(loss_discriminator + penalty)
        discriminator_optimiser.step()

        with self.toggled_optimizer(generator_optimiser):
            loss_generator = softplus(-self.discriminator(fake, label)).mean()
            generator_optimiser.zero_grad()
            self.manual_backward(loss_generator)
            generator_optimiser.step()

        self.averaged.update_parameters(self.generator)
        for schedule in cast(list[LambdaLR], self.lr_schedulers()):
            schedule.step()
        losses = {"train_loss_generator": loss_generator, "train_loss_discriminator": loss_discriminator}
        self.log_dict(losses, on_step=False, on_epoch=True, batch_size=len(label), sync_dist=True)

    def _loss_discriminator(self, image: Tensor, fake: Tensor, label: Tensor) -> Tensor:
        logits = self.discriminator(torch.cat([image, fake]), torch.cat([label, label]))  # (2N, 1), the real ones first
        on_real, on_fake = logits.chunk(2)
        return softplus(-on_real).mean() + softplus(on_fake).mean()

    def _penalty(self, image: Tensor, label: Tensor) -> Tensor:
        """R1 for pixels in [-1, 1], so that gamma doesn't depend on the unit of the pixels."""
        scaled = (image / 127.5 - 1.0).requires_grad_()
        (slope,) = torch.autograd.grad(self.discriminator((scaled + 1.0) * 127.5, label).sum(), scaled, create_graph=True)
        steepness = slope.square().flatten(1).sum(dim=1).mean()
        return self.contest.gradient_penalty / 2 * self.contest.penalty_every * steepness

    def on_validation_epoch_start(self) -> None:
        self.draw = torch.Generator().manual_seed(VALIDATION_SEED)
        settle(self.averaged, self.draw)
        self.real, self.generated = [], []

    def validation_step(self, batch: Batch, _index: int) -> None:
        image, label = batch[0].float(), batch[1]
        fake = self.averaged(torch.randn(len(label), LATENT, generator=self.draw).to(self.device), label)
        losses = {
            "validation_loss_generator": softplus(-self.discriminator(fake, label)).mean(),
            "validation_loss_discriminator": self._loss_discriminator(image, fake, label),
        }
        self.log_dict(losses, on_epoch=True, batch_size=len(label), sync_dist=True)
        self.real.append(self.judge.see(image, label))
        self.generated.append(self.judge.see(fake, label))

    def on_validation_epoch_end(self) -> None:
        figures = likeness(self._all(self.generated), self._all(self.real), CLASSES)
        self.log("validation_frechet", figures.frechet, prog_bar=True)
        self.log("validation_recognised", figures.recognised, prog_bar=True)
        self.log("validation_variance", figures.variance_ratio, prog_bar=True)

    def _all(self, seen: list[Seen]) -> Seen:
        """What this process saw and, in a run on several devices, what the others saw."""
        columns = (torch.cat([getattr(part, name) for part in seen]).to(self.device) for name in ("features", "predicted", "labels"))
        return Seen(*(torch.as_tensor(self.all_gather(column)).reshape(-1, *column.shape[1:]).cpu() for column in columns))

    def configure_optimizers(self) -> Any:
        rates = ((self.generator, self.contest.generator_rate), (self.discriminator, self.contest.discriminator_rate))
        # Little momentum, as DCGAN found: each network's target moves with the other's steps.
        optimisers = [Adam(network.parameters(), lr=rate, betas=(0.5, 0.99)) for network, rate in rates]
        steps = int(self.trainer.estimated_stepping_batches)
        return optimisers, [LambdaLR(optimiser, lambda step: falling(step / steps)) for optimiser in optimisers]


def falling(progress: float) -> float:
    """Factor of the learning rate after `progress` (0 to 1) of the run: 1 in its first half, then in a line down to 0.02."""
    return max(0.02, min(1.0, 2.0 * (1.0 - progress)))


@torch.no_grad()
def settle(generator: nn.Module, draw: torch.Generator) -> None:
    """Sets BatchNorm's running statistics to those of this very generator over many latents, and turns to eval mode.

    Averaged weights come with the statistics of the last weights, which are not theirs.
    """
    norms = [module for module in generator.modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))]
    momenta = [norm.momentum for norm in norms]
    device = next(generator.parameters()).device
    generator.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch: a plain mean over all batches from now on
    for latent, label in latents(SETTLING_ROWS, draw):
        generator(latent.to(device), label.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    generator.eval()


def latents(rows: int, draw: torch.Generator) -> Iterable[tuple[Tensor, Tensor]]:
    """Batches of standard normal latents float32 (N, 64) with classes int64 (N,), each class equally likely."""
    for _ in range(rows // SETTLING_BATCH):
        yield torch.randn(SETTLING_BATCH, LATENT, generator=draw), torch.randint(CLASSES, (SETTLING_BATCH,), generator=draw)

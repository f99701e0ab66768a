"""The classification task: loss, regularisation, optimiser and metrics around a plain network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from training.batches import Batch

Augment = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Optimisation:
    """How the weights move. `weight_decay` is decoupled (AdamW, Loshchilov & Hutter 2019, arXiv:1711.05101) and, like `l1`,
    acts on matrices and kernels only: pulling biases and normalisation scales to zero regularises nothing."""

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    l1: float = 0.0
    schedule: Literal["constant", "cosine", "onecycle"] = "constant"
    label_smoothing: float = 0.0


class EpochFigures(nn.Module):
    """Mean cross-entropy and accuracy over the batches of an epoch, on all devices together.

    Logged once an epoch: Lightning's logging at every step takes longer than a step of a small network.
    """

    def __init__(self, split: str, classes: int) -> None:
        super().__init__()
        self.split = split
        self.loss = MeanMetric()
        self.accuracy = MulticlassAccuracy(classes, average="micro")

    def update(self, logits: Tensor, target: Tensor, loss: Tensor) -> None:
        """`logits` (N, classes), `target` int64 (N,), `loss` their mean cross-entropy, a scalar."""
        self.loss.update(loss.detach(), weight=len(target))
        self.accuracy.update(logits.detach(), target)

    def finish(self) -> dict[str, Tensor]:
        """The epoch's figures by the name under which they are logged; starts the next epoch."""
        figures = {f"{self.split}_loss": self.loss.compute(), f"{self.split}_accuracy": self.accuracy.compute()}
        self.loss.reset()
        self.accuracy.reset()
        return figures


class Supervised(LightningModule):
    """Cross-entropy training of `net`, which maps the batch's inputs to logits (N, classes).

    A batch is the inputs in the order of `net.forward`, then the target int64 (N,). `augment` changes the first input of
    training batches. Logs `train_loss`, `train_accuracy`, `validation_loss`, `validation_accuracy` once an epoch; both
    losses are plain cross-entropy, without penalty or label smoothing, so that the two curves compare.
    """

    def __init__(self, net: nn.Module, classes: int, optimisation: Optimisation, augment: Augment | None = None) -> None:
        super().__init__()
        self.net = net
        self.optimisation = optimisation
        self.augment = augment
        self.train_figures = EpochFigures("train", classes)
        self.validation_figures = EpochFigures("validation", classes)

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        *inputs, target = batch
        if self.augment:
            inputs[0] = self.augment(inputs[0])
        logits = self.net(*inputs)  # (N, classes)
        loss = cross_entropy(logits, target)
        self.train_figures.update(logits, target, loss)
        if self.optimisation.label_smoothing:
            loss = cross_entropy(logits, target, label_smoothing=self.optimisation.label_smoothing)
        if self.optimisation.l1:
            loss = loss + self.optimisation.l1 * sum_of_magnitudes(self.net)
        return loss

    def validation_step(self, batch: Batch, _index: int) -> None:
        *inputs, target = batch
        logits = self.net(*inputs)  # (N, classes)
        self.validation_figures.update(logits, target, cross_entropy(logits, target))

    def on_validation_epoch_end(self) -> None:
        # Validation closes each training epoch, and this hook comes before the callbacks that read the figures.
        self.log_dict(self.train_figures.finish())
        self.log_dict(self.validation_figures.finish(), prog_bar=True)

    def configure_optimizers(self) -> Any:
        chosen = self.optimisation
        optimiser = AdamW(parameter_groups(self.net, chosen.weight_decay), lr=chosen.learning_rate)
        scheduler = _scheduler(optimiser, chosen, int(self.trainer.estimated_stepping_batches))
        if scheduler is None:
            return optimiser
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def parameter_groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The optimiser's groups: weight decay for matrices and kernels, none for biases and scales."""
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.ndim >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]


def sum_of_magnitudes(net: nn.Module) -> Tensor:
    """The L1 norm of all matrices and kernels, a scalar."""
    return torch.stack([parameter.abs().sum() for parameter in net.parameters() if parameter.ndim >= 2]).sum()


def _scheduler(optimiser: Optimizer, chosen: Optimisation, steps: int) -> LRScheduler | None:
    if chosen.schedule == "onecycle":  # Smith & Topin 2017, arXiv:1708.07120
        return OneCycleLR(optimiser, chosen.learning_rate, total_steps=steps, pct_start=0.2)
    if chosen.schedule == "cosine":
        return CosineAnnealingLR(optimiser, steps)
    return None

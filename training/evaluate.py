"""Figures of a finished classifier: logits over a whole split, and what is measured from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error, multiclass_confusion_matrix

from service.manifest import Metric
from training.batches import Batch


@dataclass(frozen=True)
class Figures:
    """A classifier's figures on one split of `n` rows. `confusion` int64 (classes, classes), row: true, column: predicted."""

    split: str
    n: int
    accuracy: float
    loss: float
    calibration_error: float
    confusion: Tensor

    def metrics(self, seed: int) -> tuple[Metric, ...]:
        """As the manifest states them."""
        return (
            Metric(name="accuracy", value=round(self.accuracy, 6), split=self.split, n=self.n, seed=seed),
            Metric(name="cross_entropy", value=round(self.loss, 6), split=self.split, n=self.n, seed=seed, unit="nats"),
            Metric(
                name="calibration_error",
                value=round(self.calibration_error, 6),
                split=self.split,
                n=self.n,
                seed=seed,
                note="expected calibration error, 15 bins (Guo et al. 2017, arXiv:1706.04599)",
            ),
        )


@torch.inference_mode()
def measure(net: nn.Module, batches: DataLoader[Batch], classes: int, split: str) -> Figures:
    """Figures of `net` in evaluation mode. Batches hold the inputs in the order of `net.forward`, then the target (N,)."""
    net.eval()
    logits, targets = zip(*((net(*inputs), target) for *inputs, target in batches), strict=True)
    scores, truth = torch.cat(logits), torch.cat(targets)  # (N, classes), (N,)
    return Figures(
        split=split,
        n=len(truth),
        accuracy=float(multiclass_accuracy(scores, truth, classes, average="micro")),
        loss=float(cross_entropy(scores, truth)),
        calibration_error=float(multiclass_calibration_error(scores.softmax(-1), truth, classes, n_bins=15)),
        confusion=multiclass_confusion_matrix(scores, truth, classes),
    )

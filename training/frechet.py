"""Figures of a generative model in a classifier's feature space: distance to the real digits, spread, recognition."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from training.judge import Seen


class Identity(nn.Module):
    """Tells torchmetrics that what it is given are features already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(features: Tensor, others: Tensor) -> float:
    """Squared Fréchet distance of the Gaussians fitted to two sets of features, float (N, F) and (M, F).

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), as in the Fréchet Inception Distance (Heusel et al. 2017,
    arXiv:1706.08500). Biased upwards for small sets: compare only distances between sets of equal sizes. Raises
    ValueError where the sets don't share a feature space or one has fewer than two rows.
    """
    if features.ndim != 2 or others.ndim != 2 or features.shape[1] != others.shape[1] or min(len(features), len(others)) < 2:
        raise ValueError(
            f"expected two sets of at least two rows of features, got shapes {tuple(features.shape)} and {tuple(others.shape)}"
        )
    metric = FrechetInceptionDistance(feature=Identity(features.shape[1])).set_dtype(torch.float64)
    metric.update(features.double(), real=True)
    metric.update(others.double(), real=False)
    return float(metric.compute())


def class_variances(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Total variance (trace of the covariance) of each class's features, float64 (classes,).

    `features` float (N, F), `labels` int64 (N,). Raises ValueError where a class has fewer than two rows.
    """
    counts = torch.bincount(labels, minlength=classes)
    if len(counts) != classes or int(counts.min()) < 2:
        raise ValueError(f"expected at least two rows of each of {classes} classes, got {counts.tolist()}")
    return torch.stack([features[labels == k].double().var(dim=0).sum() for k in range(classes)])


@dataclass(frozen=True)
class Likeness:
    """How like real digits generated ones are, judged by a classifier."""

    recognised: float
    """Share of the generated digits that the classifier takes for the class asked for."""
    recognised_worst: float
    """The same of the class that fares worst."""
    variance_ratios: tuple[float, ...]
    """Per class, total feature variance of the generated digits over that of the real ones: well below 1, modes are lost."""
    frechet: float
    """Fréchet distance between generated and real digits, as many of the one as of the other."""

    @property
    def variance_ratio(self) -> float:
        """Of the class with the smallest one."""
        return min(self.variance_ratios)


def likeness(generated: Seen, real: Seen, classes: int) -> Likeness:
    """Compares generated digits with as many real ones. Raises ValueError where the numbers differ."""
    if len(generated.labels) != len(real.labels):
        raise ValueError(f"the Fréchet distance needs sets of equal size, got {len(generated.labels)} and {len(real.labels)} digits")
    right = (generated.predicted == generated.labels).double()
    ratios = class_variances(generated.features, generated.labels, classes) / class_variances(real.features, real.labels, classes)
    return Likeness(
        recognised=float(right.mean()),
        recognised_worst=min(float(right[generated.labels == k].mean()) for k in range(classes)),
        variance_ratios=tuple(ratios.tolist()),
        frechet=frechet_distance(real.features, generated.features),
    )

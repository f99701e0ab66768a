"""Two networks for a table of numbers: a single layer, and a multi-layer perceptron. Standardising is part of both."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class Standardise(nn.Module):
    """Shifts and scales each column to mean 0 and standard deviation 1, by constants from the training rows."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)  # (columns,)
        self.register_buffer("std", std)  # (columns,)

    def forward(self, rows: Tensor) -> Tensor:
        return (rows - self.mean) / self.std


class Perceptron(nn.Module):
    """One layer: each class's logit is a weighted sum of the standardised columns (multinomial logistic regression)."""

    def __init__(self, mean: Tensor, std: Tensor, classes: int) -> None:
        super().__init__()
        self.standardise = Standardise(mean, std)
        self.classes = nn.Linear(len(mean), classes)

    def forward(self, row: Tensor) -> Tensor:
        """Logits, float32 (N, classes), of `row` float32 (N, columns) in the table's own units."""
        logits: Tensor = self.classes(self.standardise(row))
        return logits


class MultiLayerPerceptron(nn.Module):
    """`depth` hidden layers of `width` rectified units before the classes, with dropout after each."""

    def __init__(self, mean: Tensor, std: Tensor, classes: int, *, depth: int, width: int, dropout: float) -> None:
        super().__init__()
        self.standardise = Standardise(mean, std)
        sizes = [len(mean)] + [width] * depth
        hidden: list[nn.Module] = []
        for before, after in pairwise(sizes):
            hidden += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
        self.hidden = nn.Sequential(*hidden)
        self.classes = nn.Linear(sizes[-1], classes)

    def forward(self, row: Tensor) -> Tensor:
        """Logits, float32 (N, classes), of `row` float32 (N, columns) in the table's own units."""
        logits: Tensor = self.classes(self.hidden(self.standardise(row)))
        return logits


def column_statistics(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column of `rows` (N, columns): two tensors (columns,)."""
    std, mean = torch.std_mean(rows, dim=0)
    return mean, std

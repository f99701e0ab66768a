"""The mean of vectors as they come, with its standard error."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class Mean:
    """Of samples (n, M), a chunk at a time: holds their sum, never the samples.

    What the standard errors are told from are units: the samples where they are `independent`, otherwise the rounds that `close`
    ends, since those of a round balance each other. Units that keep out of each other's way, as rounds that share out the
    references do, have a smaller error than is told.
    """

    def __init__(self, *, independent: bool) -> None:
        self._independent = independent
        self._sum: Tensor | None = None  # (M,) float64
        self._round: Tensor | None = None  # (M,) float64: of the round that is being taken
        self._in_round = 0
        self._sizes: list[int] = []
        self._totals: list[float] = []
        self._squares: list[float] = []  # squared L2 lengths

    def add(self, samples: Tensor) -> None:
        """Some of a round's, (n, M)."""
        chunk = samples.sum(0, dtype=torch.float64)
        self._round = chunk if self._round is None else self._round + chunk
        self._in_round += len(samples)
        if self._independent:
            self._sizes += [1] * len(samples)
            self._totals += samples.sum(1, dtype=torch.float64).tolist()
            self._squares += (torch.linalg.vector_norm(samples, dim=1, dtype=torch.float64) ** 2).tolist()
            self._take_in()

    def close(self) -> None:
        """Ends a round; one that isn't ended doesn't count."""
        if self._round is not None:
            mean = self._round / self._in_round
            self._sizes.append(self._in_round)
            self._totals.append(float(mean.sum()))
            self._squares.append(float(mean @ mean))
            self._take_in()

    def _take_in(self) -> None:
        assert self._round is not None  # only called behind an addition
        self._sum = self._round if self._sum is None else self._sum + self._round
        self._round, self._in_round = None, 0

    @property
    def units(self) -> int:
        return len(self._sizes)

    @property
    def count(self) -> int:
        """Samples."""
        return sum(self._sizes)

    @property
    def _exact(self) -> Tensor:
        """(M,) float64. Raises ValueError before there is any."""
        if self._sum is None:
            raise ValueError("the mean of no samples")
        return self._sum / self.count

    @property
    def values(self) -> Tensor:
        """(M,) float32."""
        return self._exact.float()

    @property
    def total(self) -> float:
        """Sum of its elements."""
        return float(np.average(self._totals, weights=self._sizes))

    @property
    def standard_error(self) -> float | None:
        """Of `total`; None of fewer than two units, which tell none."""
        if self.units < 2:
            return None
        varies = np.average((np.asarray(self._totals) - self.total) ** 2, weights=self._sizes)
        return float(np.sqrt(varies / (self.units - 1)))

    @property
    def spread(self) -> float | None:
        """Of all elements together, relative to the mean's length (L2): the root of the sum of their squared standard errors."""
        if self.units < 2:
            return None
        mean = self._exact
        square = float(mean @ mean)
        varies = max(0.0, float(np.average(self._squares, weights=self._sizes)) - square)
        if square == 0.0:
            return 0.0 if varies == 0.0 else None
        return float(np.sqrt(varies / (self.units - 1) / square))

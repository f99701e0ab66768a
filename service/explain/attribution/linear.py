"""The linear models that are fitted to F over sets of features, with the interface of Captum's own: fit, representation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader


class Constrained:
    """Weighted least squares whose coefficients sum to `total` and whose intercept is `start`: Captum's interface of a model."""

    def __init__(self, total: float, start: float) -> None:
        self._total = total
        self._start = start
        self._coefficients = torch.zeros(1)

    def fit(self, train_data: DataLoader[Any]) -> None:
        """One batch: sets (N, K), F (N,), weights (N,)."""
        z, f, w = (t.double().numpy() for t in next(iter(train_data)))
        # The last coefficient is what the others leave of the total.
        left = f - self._start - z[:, -1] * self._total
        design = z[:, :-1] - z[:, -1:]
        root = np.sqrt(w)
        others, *_ = np.linalg.lstsq(design * root[:, None], left * root, rcond=None)
        self._coefficients = torch.from_numpy(np.append(others, self._total - others.sum()))

    def representation(self) -> Tensor:
        return self._coefficients


class Scored:
    """A linear model of Captum's that also tells how well it fits: `score` is its weighted coefficient of determination, None
    before it was fitted and where F doesn't vary."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.score: float | None = None

    def fit(self, train_data: DataLoader[Any]) -> None:
        """One batch: sets (N, K), F (N,), weights (N,)."""
        self._model.fit(train_data)
        z, f, w = next(iter(train_data))
        left = (f - self._model(z).detach().reshape(-1)).double()
        spread = f.double() - (w * f).double().sum() / w.double().sum()
        whole = float((w * spread**2).sum())
        self.score = 1 - float((w * left**2).sum()) / whole if whole > 0 else None

    def representation(self) -> Tensor:
        found: Tensor = self._model.representation()
        return found

"""Recipe `wine-perceptron`: one layer on a table of laboratory figures, half a minute on 2 cores.

The simplest network there is: a weighted sum a class. Its weights can be read, and its explanations checked by hand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from training.card import Section, table
from training.datasets import load_wine
from training.fit import Run, start
from training.networks.wine import Perceptron, column_statistics
from training.recipes import wine
from training.session import Session
from training.supervised import Optimisation

NAME = "wine-perceptron"


@dataclass(frozen=True)
class Config:
    epochs: int = field(default=60, metadata={"help": "passes over the training wines, at most"})
    batch_size: int = field(default=128, metadata={"help": "wines a step"})
    learning_rate: float = field(default=1e-2, metadata={"help": "falls to zero along a cosine"})
    weight_decay: float = field(default=0.0, metadata={"help": "L2 penalty, decoupled (AdamW)"})
    l1: float = field(default=0.0, metadata={"help": "weight of the L1 penalty"})


def train(config: Config, session: Session) -> list[Path]:
    """Trains, measures and exports; returns the bundle's folder."""
    data = load_wine(session.data)
    run = Run.of(session, NAME, config, epochs=config.epochs)
    start(run)
    net = Perceptron(*column_statistics(torch.from_numpy(data.train.values)), len(wine.LABELS))
    optimisation = Optimisation(config.learning_rate, config.weight_decay, config.l1, schedule="cosine")
    fitted = wine.fit_wine(net, data, wine.Training(config.epochs, config.batch_size, optimisation), run)
    validation = wine.measured(net, data.validation, "validation")
    test = wine.measured(net, data.test, "test")
    print(
        f"epoch {fitted.epoch + 1} chosen on validation, accuracy {validation.accuracy:.4f}; test accuracy {test.accuracy:.4f} (n={test.n})"
    )
    bundle = wine.Bundle(
        NAME,
        "White wine quality (one layer)",
        "Says from eleven laboratory figures whether tasters found a white wine plain, good or very good: "
        "one layer, a weighted sum a class.",
        net,
        config,
        session,
        fitted,
        data,
        validation,
        test,
        [_weights(data.train.columns, net.classes.weight), ("How it was trained", f"![learning curves]({wine.CURVES})")],
        {},
    )
    return [wine.export(bundle)]


def _weights(columns: tuple[str, ...], weights: Tensor) -> Section:
    """All there is to the model. `weights` (classes, columns), a standard deviation of the column each."""
    rows = [(column, *(f"{weight:+.2f}" for weight in row)) for column, row in zip(columns, weights.detach().T.tolist(), strict=True)]
    return (
        "The whole model",
        "What one standard deviation more of a column adds to each class's logit. An explanation of a wine is these "
        "numbers times its distance from the average wine, which makes this model the one to check explanations with.\n\n"
        + table(("column", *wine.LABELS), rows),
    )

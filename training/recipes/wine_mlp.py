"""Recipe `wine-mlp`: a multi-layer perceptron on the table of `wine-perceptron`, about three minutes on 2 cores.

The lesson beside the model: the same run with more or fewer layers, with and without dropout, L1 and L2, over several seeds,
and what that does to training and validation loss (`--no-ablation` leaves it out). The same seed repeats every
figure on the same machine; between seeds validation accuracy varies by 0.009 (standard deviation), loss by 0.001.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from training.ablation import Trial, Variant, draw_variants, variants_table
from training.card import Section
from training.datasets import Wine, load_wine
from training.fit import Fitted, Run, start
from training.networks.wine import MultiLayerPerceptron, column_statistics
from training.recipes import wine
from training.session import Session
from training.supervised import Optimisation, Supervised

NAME = "wine-mlp"
ABLATION_PLOT = "ablation.png"


@dataclass(frozen=True)
class Config:
    epochs: int = field(default=60, metadata={"help": "passes over the training wines, at most"})
    batch_size: int = field(default=128, metadata={"help": "wines a step"})
    learning_rate: float = field(default=3e-3, metadata={"help": "constant"})
    depth: int = field(default=2, metadata={"help": "hidden layers; none makes it a perceptron"})
    width: int = field(default=64, metadata={"help": "units of a hidden layer"})
    dropout: float = field(default=0.0, metadata={"help": "share of hidden units left out in training"})
    weight_decay: float = field(default=1.0, metadata={"help": "L2 penalty, decoupled (AdamW)"})
    l1: float = field(default=0.0, metadata={"help": "weight of the L1 penalty"})
    patience: int | None = field(default=15, metadata={"help": "stop after this many epochs without a better validation loss"})
    ablation: bool = field(default=True, metadata={"help": "also train the variants that the card compares"})
    ablation_seeds: int = field(default=3, metadata={"help": "seeds a variant"})


PLAIN = {"dropout": 0.0, "weight_decay": 0.0, "l1": 0.0, "patience": None, "ablation": False}
VARIANTS: dict[str, dict[str, Any]] = {
    "no hidden layer": {"depth": 0},
    "1 hidden layer": {"depth": 1},
    "2 hidden layers": {"depth": 2},
    "4 hidden layers": {"depth": 4},
    "2 hidden, dropout 0.3": {"depth": 2, "dropout": 0.3},
    "2 hidden, L2 (weight decay 1)": {"depth": 2, "weight_decay": 1.0},
    "2 hidden, L1 (3e-4)": {"depth": 2, "l1": 3e-4},
}
"""What each variant of the comparison changes in the recipe's Config, after PLAIN has switched all regularisation off."""


def train(config: Config, session: Session) -> list[Path]:
    """Trains, measures and exports; returns the bundle's folder."""
    data = load_wine(session.data)
    fitted, net = _fit(config, data, Run.of(session, NAME, config, epochs=config.epochs, patience=config.patience))
    sections, plots = _compare(config, session, data) if config.ablation else ([], {})
    validation = wine.measured(net, data.validation, "validation")
    test = wine.measured(net, data.test, "test")
    print(
        f"epoch {fitted.epoch + 1} chosen on validation, accuracy {validation.accuracy:.4f}; test accuracy {test.accuracy:.4f} (n={test.n})"
    )
    curves = (
        f"![learning curves]({wine.CURVES})\n\nDepth {config.depth}, weight decay {config.weight_decay:g}, dropout {config.dropout:g}, "
        f"L1 {config.l1:g}; stopped after {len(fitted.curves['train_loss'])} epochs. The defaults are those of the variant of the "
        "comparison with the lowest validation loss."
    )
    bundle = wine.Bundle(
        NAME,
        "White wine quality (multi-layer perceptron)",
        "Says from eleven laboratory figures whether tasters found a white wine plain, good or very good: "
        f"{config.depth} hidden layers of {config.width} units.",
        net,
        config,
        session,
        fitted,
        data,
        validation,
        test,
        [("How it was trained", curves), *sections],
        plots,
    )
    return [wine.export(bundle)]


def _fit(config: Config, data: Wine, run: Run) -> tuple[Fitted[Supervised], MultiLayerPerceptron]:
    start(run)
    mean, std = column_statistics(torch.from_numpy(data.train.values))
    net = MultiLayerPerceptron(mean, std, len(wine.LABELS), depth=config.depth, width=config.width, dropout=config.dropout)
    optimisation = Optimisation(config.learning_rate, config.weight_decay, config.l1)
    return wine.fit_wine(net, data, wine.Training(config.epochs, config.batch_size, optimisation), run), net


def _compare(config: Config, session: Session, data: Wine) -> tuple[list[Section], dict[str, Path]]:
    """Trains every variant with several seeds; the card's section and its plot."""
    jobs = [
        (label, replace(config, **PLAIN | changes), seed) for label, changes in VARIANTS.items() for seed in range(config.ablation_seeds)
    ]
    trials: dict[str, list[Trial]] = {label: [] for label in VARIANTS}
    for number, (label, variant, seed) in enumerate(tqdm(jobs, desc="ablation")):
        run = Run.of(replace(session, seed=seed, resume=False), f"{NAME}-ablation/{number}", variant, epochs=variant.epochs, quiet=True)
        fitted, net = _fit(variant, data, run)
        trials[label].append(
            Trial(fitted.curves, wine.measured(net, data.train, "train"), wine.measured(net, data.validation, "validation"))
        )
    variants = [Variant(label, found) for label, found in trials.items()]
    plot = session.runs / NAME / ABLATION_PLOT
    draw_variants(variants, plot, title="wine-mlp")
    comparison = variants_table(variants)
    print(comparison)
    text = (
        f"Each variant was trained {config.ablation_seeds} times (seeds 0 to {config.ablation_seeds - 1}) for {config.epochs} epochs, "
        "without early stopping. The first three columns are of the epoch of lowest validation loss, measured with dropout off: what early "
        "stopping keeps. The last two show what training on does: layers that aren't held back learn the training wines by heart. "
        f"Mean ± standard deviation over the seeds.\n\n{comparison}\n\n![loss of each variant]({ABLATION_PLOT})"
    )
    return [("What depth, dropout, L1 and L2 do", text)], {ABLATION_PLOT: plot}

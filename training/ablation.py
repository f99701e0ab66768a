"""Variants of one run side by side: what each does to training and validation loss, over several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training.card import table
from training.evaluate import Figures
from training.history import Curves


@dataclass(frozen=True)
class Trial:
    """One seed of a variant: its curves over all epochs, and the figures of the epoch of lowest validation loss,
    both measured in evaluation mode (dropout off)."""

    curves: Curves
    train: Figures
    validation: Figures


@dataclass(frozen=True)
class Variant:
    """What was changed, in words, and what came of it, a trial a seed."""

    label: str
    trials: Sequence[Trial]


def variants_table(variants: Sequence[Variant]) -> str:
    """Markdown: mean over the seeds, and its standard deviation for the figures on validation rows."""
    header = (
        "variant",
        "training loss",
        "validation loss",
        "validation accuracy",
        "training loss, last epoch",
        "validation loss, last epoch",
    )
    return table(header, [_row(variant) for variant in variants])


def draw_variants(variants: Sequence[Variant], path: Path, *, title: str) -> None:
    """A panel a variant with its training and validation loss over the epochs, one line a seed, all on one scale."""
    across = 4
    down = -(-len(variants) // across)
    figure = Figure(figsize=(2.6 * across, 2.3 * down), dpi=72, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, variant in zip(panels, variants, strict=False):
        for trial in variant.trials:
            for name, colour in (("train_loss", "#c77c02"), ("validation_loss", "#1f5fa8")):
                values = trial.curves[name]
                axes.plot(range(1, len(values) + 1), values, color=colour, linewidth=1)
        axes.set_title(variant.label, fontsize=9)
        axes.grid(alpha=0.25)
    for axes in panels[len(variants) :]:
        axes.set_axis_off()
    figure.suptitle(f"{title}: loss over epochs, training (orange) and validation (blue)", fontsize=10)
    figure.savefig(path, metadata={"Software": None})


def _row(variant: Variant) -> tuple[str, ...]:
    trials = variant.trials
    return (
        variant.label,
        f"{np.mean([trial.train.loss for trial in trials]):.3f}",
        _spread([trial.validation.loss for trial in trials]),
        _spread([trial.validation.accuracy for trial in trials]),
        f"{np.mean([trial.curves['train_loss'][-1] for trial in trials]):.3f}",
        _spread([trial.curves["validation_loss"][-1] for trial in trials]),
    )


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=min(1, len(values) - 1)):.3f}"

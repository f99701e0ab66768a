"""Learning curves: the logged figures of every epoch, kept across a resume, written as JSON and drawn as PNG."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tqdm import tqdm

Curves = dict[str, list[float]]
"""One value an epoch, by the name under which it was logged. NaN where an epoch didn't log it."""


class History(Callback):
    """Collects what the task logs, one value an epoch; travels in the checkpoint, so that a resumed run has whole curves."""

    def __init__(self, announce: bool) -> None:
        self.curves: Curves = {}
        self.epochs = 0
        self.announce = announce

    def on_train_epoch_end(self, trainer: Trainer, _module: LightningModule) -> None:
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        for name in figures.keys() | self.curves.keys():
            curve = self.curves.setdefault(name, [math.nan] * self.epochs)
            curve.append(figures.get(name, math.nan))
        self.epochs += 1
        if self.announce and trainer.is_global_zero:
            tqdm.write(f"epoch {self.epochs}: " + ", ".join(f"{name} {figures[name]:.4f}" for name in sorted(figures)))

    def state_dict(self) -> dict[str, Any]:
        return {"curves": self.curves, "epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.curves = {name: list(values) for name, values in state_dict["curves"].items()}
        self.epochs = state_dict["epochs"]


def write_curves(curves: Curves, path: Path) -> None:
    path.write_text(json.dumps(curves, indent=1) + "\n", "utf-8")


def draw_curves(curves: Curves, path: Path, *, title: str, chosen_epoch: int | None = None) -> None:
    """One panel a quantity (`loss`, `accuracy`, ..), its training and validation curves in it, `chosen_epoch` (from 0) marked.

    Written with a small palette: a bundle's plot stays under 60 KB.
    """
    quantities = sorted({name.split("_", 1)[1] for name in curves if "_" in name}, key=lambda name: (name != "loss", name))
    figure = Figure(figsize=(4.6 * len(quantities), 3.4), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, quantity in zip(figure.subplots(1, len(quantities), squeeze=False)[0], quantities, strict=True):
        for name, colour in (("train", "#c77c02"), ("validation", "#1f5fa8")):
            values = curves.get(f"{name}_{quantity}")
            if values:
                axes.plot(range(1, len(values) + 1), values, color=colour, label=name, linewidth=1.6)
        if chosen_epoch is not None:
            axes.axvline(chosen_epoch + 1, color="#888888", linewidth=0.8, linestyle="--", label="chosen epoch")
        axes.set(xlabel="epoch", ylabel=quantity)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    figure.suptitle(title)
    figure.savefig(path, metadata={"Software": None})

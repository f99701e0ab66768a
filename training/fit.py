"""The training loop that all recipes share: seed, device, progress, checkpoint and resume, early stopping, curves.

Lightning runs it. A recipe brings a task (a LightningModule that logs `train_*` and `validation_*` figures) and loaders.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import torch
from lightning import LightningModule, Trainer, seed_everything
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar, WeightAveraging
from torch import Tensor
from torch.utils.data import DataLoader

from training.batches import Batch
from training.history import Curves, History, draw_curves, write_curves
from training.session import Device, Session, hyperparameters

Task = TypeVar("Task", bound=LightningModule)

LAST = "last"
BEST = "best"


class FitError(Exception):
    """A run can't start or go on as asked."""


@dataclass(frozen=True)
class Run:
    """Where and how one training run happens; what it learns is the recipe's business."""

    name: str
    folder: Path = Path("runs")
    seed: int = 0
    epochs: int = 10
    device: Device = "auto"
    devices: int = 1
    resume: bool = False
    monitor: str = "validation_loss"
    """The figure that chooses the epoch."""
    mode: Literal["min", "max"] = "min"
    patience: int | None = None
    """Stop after this many epochs without a better `monitor`; None: never."""
    ema: float | None = None
    """Decay of an exponential moving average of the weights, which is then what is validated and kept."""
    gradient_clip: float | None = None
    quiet: bool = False
    """No progress bar, no line an epoch, no plot: for one of many runs."""
    fingerprint: str = ""
    """Whatever else decides the run's course; a checkpoint of another one is not resumed."""

    @classmethod
    def of(cls, session: Session, name: str, config: Any, **options: Any) -> Run:
        """The run of a recipe: where, from the session; `fingerprint` from its Config; what else differs as options."""
        fingerprint = ", ".join(f"{option}={value}" for option, value in {"seed": session.seed, **hyperparameters(config)}.items())
        return cls(
            name,
            session.runs,
            seed=session.seed,
            device=session.device,
            devices=session.devices,
            resume=session.resume,
            fingerprint=fingerprint,
            **options,
        )

    @property
    def path(self) -> Path:
        return self.folder / self.name


@dataclass(frozen=True)
class Fitted(Generic[Task]):
    """A finished run: the task with the weights of the chosen epoch, the curves, and which epoch it was (from 0)."""

    task: Task
    curves: Curves
    epoch: int
    monitored: float
    run: Run


class SeedEachEpoch(Callback):
    """Seeds augmentation and dropout from (seed, epoch): a resumed run draws what the uninterrupted one would have drawn."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, _module: LightningModule, _batch: Any, batch_idx: int) -> None:
        # Not when the epoch starts: making the loader's iterator draws a number, before that hook or after it.
        if batch_idx == 0:
            torch.manual_seed((self.seed * 1_000_003 + trainer.current_epoch) * 64 + trainer.global_rank)


class SameRun(Callback):
    """Refuses to resume a run that was started with other options: the result would be neither run's."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint

    def state_dict(self) -> dict[str, str]:
        return {"fingerprint": self.fingerprint}

    def load_state_dict(self, state_dict: dict[str, str]) -> None:
        if state_dict["fingerprint"] != self.fingerprint:
            raise FitError(f"can't resume: the run was started with {state_dict['fingerprint']}, now asked is {self.fingerprint}")


def moving_average(average: Tensor, current: Tensor, updates: Tensor, *, decay: float) -> Tensor:
    """An exponential moving average whose decay grows with the number of updates, so that the first, still untrained weights
    are forgotten in short runs too (as in TensorFlow's ExponentialMovingAverage)."""
    grown = torch.minimum(torch.tensor(decay), (1 + updates) / (10 + updates)).to(average.device)
    return average + (1 - grown) * (current - average)


def start(run: Run) -> None:
    """Seeds everything; call before the network is built."""
    seed_everything(run.seed, verbose=False)


def fit(task: Task, train: DataLoader[Batch], validation: DataLoader[Batch], run: Run) -> Fitted[Task]:
    """Trains `task` and returns it with the weights of the epoch that was best by `run.monitor` on validation data.

    Writes `last.ckpt`, `best.ckpt`, `curves.json` and `curves.png` to `runs/NAME/`; with `run.resume` goes on from
    `last.ckpt`. On several devices only the first process returns, the others end here: measuring and exporting happen
    once. Raises FitError where there is nothing to resume, the checkpoint is another run's, or the device isn't there.
    """
    checkpoint = _checkpoint_to_resume(run)
    bar = sys.stderr.isatty() and not run.quiet
    history = History(announce=not bar and not run.quiet)
    # Saved at the end of the training epoch, not of validation: only then the history of the epoch is in the checkpoint.
    best = ModelCheckpoint(
        run.path, BEST, monitor=run.monitor, mode=run.mode, save_last=True, save_on_train_epoch_end=True, enable_version_counter=False
    )
    with _without_advice():
        trainer = _trainer(run, [*_callbacks(run, bar), history, best], bar, task.automatic_optimization)
        trainer.fit(task, train, validation, ckpt_path=checkpoint, weights_only=True)
    if not trainer.is_global_zero:
        sys.exit(0)
    chosen = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
    task.load_state_dict(chosen["state_dict"])
    write_curves(history.curves, run.path / "curves.json")
    if not run.quiet:
        draw_curves(history.curves, run.path / "curves.png", title=run.name, chosen_epoch=chosen["epoch"])
    assert best.best_model_score is not None  # an epoch was saved, or loading it had failed
    return Fitted(task.cpu().eval(), history.curves, chosen["epoch"], float(best.best_model_score), run)


def _checkpoint_to_resume(run: Run) -> Path | None:
    checkpoint = run.path / f"{LAST}.ckpt"
    if run.resume:
        if not checkpoint.exists():
            raise FitError(f"nothing to resume: {checkpoint} doesn't exist; run once without --resume")
        return checkpoint
    for stale in (LAST, BEST):
        (run.path / f"{stale}.ckpt").unlink(missing_ok=True)
    return None


def _callbacks(run: Run, bar: bool) -> list[Callback]:
    callbacks: list[Callback] = [SameRun(run.fingerprint), SeedEachEpoch(run.seed)]
    if run.ema is not None:
        callbacks.append(WeightAveraging(avg_fn=partial(moving_average, decay=run.ema)))
    if run.patience is not None:
        callbacks.append(EarlyStopping(run.monitor, mode=run.mode, patience=run.patience))
    if bar:
        callbacks.append(TQDMProgressBar(leave=True))
    return callbacks


def _trainer(run: Run, callbacks: list[Callback], bar: bool, one_optimiser: bool) -> Trainer:
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", "1"))  # set by torchrun
    # Where optimisers take turns, each backward pass leaves out the parameters of those whose turn it isn't.
    several = "ddp" if one_optimiser else "ddp_find_unused_parameters_true"
    try:
        return Trainer(
            accelerator="gpu" if run.device == "cuda" else run.device,
            devices=run.devices,
            num_nodes=nodes,
            strategy=several if run.devices * nodes > 1 else "auto",
            max_epochs=run.epochs,
            callbacks=callbacks,
            gradient_clip_val=run.gradient_clip,
            default_root_dir=run.path,
            enable_progress_bar=bar,
            enable_model_summary=False,
            logger=False,
            num_sanity_val_steps=0,
            deterministic="warn",
        )
    except MisconfigurationException as error:
        raise FitError(f"device {run.device!r}, {run.devices} of them: {error}") from error


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Keeps Lightning's hints away that don't apply: data in memory is served faster by the training process itself than by
    the loader workers it recommends, and the run's folder is meant to exist."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for hint in ("does not have many workers", "exists and is not empty", "LeafSpec", "number of training batches"):
                warnings.filterwarnings("ignore", f".*{hint}")
            yield
    finally:
        log.setLevel(level)

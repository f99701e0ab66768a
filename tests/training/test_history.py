"""Learning curves: whole across a resume, small as a plot."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from types import SimpleNamespace

import torch
from PIL import Image

from training.history import History, draw_curves, write_curves


def trainer(**figures: float) -> SimpleNamespace:
    return SimpleNamespace(callback_metrics={name: torch.tensor(value) for name, value in figures.items()}, is_global_zero=True)


def test_each_epoch_adds_one_value_a_figure():
    history = History(announce=False)
    history.on_train_epoch_end(trainer(train_loss=2.0), None)
    history.on_train_epoch_end(trainer(train_loss=1.0, validation_loss=3.0), None)
    assert history.curves["train_loss"] == [2.0, 1.0]
    assert math.isnan(history.curves["validation_loss"][0])
    assert history.curves["validation_loss"][1] == 3.0


def test_a_resumed_history_goes_on_where_it_was():
    first = History(announce=False)
    first.on_train_epoch_end(trainer(train_loss=2.0), None)
    second = History(announce=False)
    second.load_state_dict(first.state_dict())
    second.on_train_epoch_end(trainer(train_loss=1.0), None)
    assert second.curves == {"train_loss": [2.0, 1.0]}
    assert first.curves == {"train_loss": [2.0]}


def test_the_plot_is_a_png_that_a_bundle_can_carry(tmp_path: Path):
    curves = {
        f"{split}_{what}": [1 / (epoch + 1) for epoch in range(60)] for split in ("train", "validation") for what in ("loss", "accuracy")
    }
    draw_curves(curves, tmp_path / "curves.png", title="toy", chosen_epoch=12)
    content = (tmp_path / "curves.png").read_bytes()
    assert len(content) < 60_000
    with Image.open(io.BytesIO(content)) as image:
        assert image.size[0] > 2 * image.size[1] * 0.9  # two panels side by side


def test_curves_are_json(tmp_path: Path):
    write_curves({"train_loss": [1.0, 0.5]}, tmp_path / "curves.json")
    assert json.loads((tmp_path / "curves.json").read_text()) == {"train_loss": [1.0, 0.5]}

"""The training loop: it learns, resumes to the same curve, stops early, and keeps the epoch that validation chose."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from training.augment import RandomAffine
from training.batches import Rows, loader
from training.datasets import Images, Mnist
from training.fit import FitError, Fitted, Run, fit, moving_average, start
from training.networks.mnist_cnn import MnistCnn
from training.supervised import Optimisation, Supervised

FIXED = Optimisation(learning_rate=2e-3)


def rows(images: Images) -> Rows:
    return Rows(torch.from_numpy(images.pixels.astype(np.float32)).unsqueeze(1), torch.from_numpy(images.labels))


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, 10))


def run_linear(digits: Mnist, run: Run, optimisation: Optimisation = FIXED) -> Fitted[Supervised]:
    start(run)
    task = Supervised(linear(), 10, optimisation)
    return fit(task, loader(rows(digits.train), 70, shuffle_seed=run.seed), loader(rows(digits.validation), 300), run)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run("toy", tmp_path, epochs=2, device="cpu", quiet=True)


def test_it_learns_to_read_digits(digits: Mnist, run: Run):
    run = replace(run, epochs=10, ema=0.9, quiet=False)
    start(run)
    task = Supervised(MnistCnn(dropout=0.1), 10, Optimisation(1e-2, schedule="onecycle"))
    fitted = fit(task, loader(rows(digits.train), 50, shuffle_seed=0), loader(rows(digits.validation), 300), run)
    # 700 digits, 70 a class: chance is 0.1, a linear classifier gets about 0.85.
    assert fitted.curves["validation_accuracy"][fitted.epoch] > 0.9
    assert fitted.curves["train_loss"][-1] < 0.3 * fitted.curves["train_loss"][0]
    assert (run.path / "curves.png").read_bytes().startswith(b"\x89PNG")


class Interrupted(Supervised):
    """Dies when its third epoch begins."""

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 2:
            raise ConnectionAbortedError


def test_a_resumed_run_has_the_curve_and_the_weights_of_an_uninterrupted_one(digits: Mnist, run: Run):
    def distorted(task_type: type[Supervised], run: Run) -> Fitted[Supervised]:
        start(run)
        augment = RandomAffine(degrees=10, shift=2, scale=0.1, stretch=0.1, shear=0.1)
        optimisation = Optimisation(3e-3, weight_decay=0.1, l1=1e-5, schedule="onecycle")
        task = task_type(MnistCnn(dropout=0.5), 10, optimisation, augment)
        return fit(task, loader(rows(digits.train), 50, shuffle_seed=7), loader(rows(digits.validation), 300), run)

    run = replace(run, seed=7, ema=0.9, patience=10, epochs=4)
    whole = distorted(Supervised, replace(run, name="whole"))
    with pytest.raises(ConnectionAbortedError):
        distorted(Interrupted, run)
    torch.rand(11)  # whatever happens between the two
    resumed = distorted(Supervised, replace(run, resume=True))
    assert resumed.curves == whole.curves
    assert resumed.epoch == whole.epoch
    for name, weight in whole.task.net.state_dict().items():
        torch.testing.assert_close(resumed.task.net.state_dict()[name], weight, rtol=0, atol=0)


def test_resuming_a_finished_run_returns_it(digits: Mnist, run: Run):
    first = run_linear(digits, run)
    again = run_linear(digits, replace(run, resume=True))
    assert (again.curves, again.epoch) == (first.curves, first.epoch)


def test_without_resume_a_run_starts_afresh(digits: Mnist, run: Run):
    first = run_linear(digits, run)
    again = run_linear(digits, run)
    assert again.curves == first.curves
    assert len(again.curves["train_loss"]) == 2


def test_nothing_to_resume_is_said(digits: Mnist, run: Run):
    with pytest.raises(FitError, match="nothing to resume"):
        run_linear(digits, replace(run, resume=True))


def test_a_run_with_other_options_is_not_resumed(digits: Mnist, run: Run):
    run_linear(digits, replace(run, fingerprint="width=32"))
    with pytest.raises(FitError, match="started with width=32, now asked is width=64"):
        run_linear(digits, replace(run, resume=True, fingerprint="width=64"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_said(digits: Mnist, run: Run):
    with pytest.raises(FitError, match="device 'cuda'"):
        run_linear(digits, replace(run, device="cuda"))


def test_it_stops_after_patience_epochs_without_a_better_validation_loss(digits: Mnist, run: Run):
    fitted = run_linear(digits, replace(run, epochs=30, patience=2), Optimisation(learning_rate=0.05))
    losses = fitted.curves["validation_loss"]
    best = int(np.argmin(losses))
    assert best + 1 + 2 == len(losses) < 30


def test_the_weights_are_those_of_the_best_epoch(digits: Mnist, run: Run):
    fitted = run_linear(digits, replace(run, epochs=8), Optimisation(learning_rate=0.05))
    losses = fitted.curves["validation_loss"]
    assert fitted.epoch == int(np.argmin(losses)) < 7  # it overfits: the last epoch is not the best
    images, labels = rows(digits.validation).columns
    with torch.inference_mode():
        loss = nn.functional.cross_entropy(fitted.task.net(images), labels)
    assert float(loss) == pytest.approx(losses[fitted.epoch], rel=1e-5)
    assert fitted.monitored == pytest.approx(losses[fitted.epoch])


@pytest.mark.parametrize("penalty", [{"l1": 1e-2}, {"weight_decay": 10.0}], ids=["l1", "weight decay"])
def test_penalties_shrink_the_weights(digits: Mnist, run: Run, penalty: dict[str, float]):
    def size_after(name: str, optimisation: Optimisation) -> float:
        fitted = run_linear(digits, replace(run, name=name, epochs=6), optimisation)
        last = torch.load(fitted.run.path / "last.ckpt", weights_only=True)  # the epoch the penalty had most time for
        return float(last["state_dict"]["net.2.weight"].abs().sum())

    assert size_after("shrunk", replace(FIXED, **penalty)) < 0.85 * size_after("plain", FIXED)


def test_the_moving_average_forgets_its_start():
    # decay min(0.5, (1 + n) / (10 + n)): 2/11 at n = 1, a half from n = 8 on.
    average = moving_average(torch.tensor(4.0), torch.tensor(0.0), torch.tensor(1), decay=0.5)
    assert float(average) == pytest.approx(4 * 2 / 11)
    average = moving_average(torch.tensor(4.0), torch.tensor(0.0), torch.tensor(1000), decay=0.5)
    assert float(average) == pytest.approx(2.0)


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path: Path, data_folder: Path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "training"]
    options = ["wine-perceptron", "--device", "cpu", "--epochs", "4", "--out", str(tmp_path / "models"), "--runs", str(tmp_path / "runs")]
    environment = {**os.environ, "WHYSERVE_DATA": str(data_folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("bundle: ") == 1
    assert (tmp_path / "models" / "wine-perceptron" / "1" / "model.onnx").exists()

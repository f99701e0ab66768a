"""The adversarial task: it learns to draw, resumes to the same figures, and keeps weights with their own statistics."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from training.adversarial import Adversarial, Contest, falling, settle
from training.batches import Rows, loader
from training.datasets import Images, Mnist
from training.fit import Fitted, Run, fit, start
from training.judge import Judge
from training.networks.mnist_gan import CLASSES, LATENT, Discriminator, Generator
from training.recipes.mnist_gan_figures import draw, pixels

ROOT = Path(__file__).parents[2]
JUDGE = ROOT / "models" / "mnist-cnn" / "1"
QUICK = Contest(generator_rate=2e-3, discriminator_rate=1e-3, average_decay=0.95)


def rows(images: Images) -> Rows:
    return Rows(pixels(images), torch.from_numpy(images.labels))


def run_small(
    digits: Mnist, run: Run, task_type: type[Adversarial] = Adversarial, channels: int = 4, passes: int = 1
) -> Fitted[Adversarial]:
    """An epoch sees the training digits `passes` times: judging costs more than training here."""
    start(run)
    task = task_type(Generator(channels, 8 * channels), Discriminator(channels, 4 * channels), Judge(JUDGE), QUICK)
    again = digits.train.take(np.tile(np.arange(len(digits.train)), passes))
    return fit(task, loader(rows(again), 50, shuffle_seed=run.seed), loader(rows(digits.validation), 100), run)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run("toy", tmp_path, epochs=2, device="cpu", quiet=True, monitor="validation_frechet")


def mean_digits(images: Tensor, labels: Tensor) -> Tensor:
    """The mean image of each class, (10, 784)."""
    return torch.stack([images[labels == k].float().mean(dim=0).flatten() for k in range(CLASSES)])


@pytest.mark.slow
def test_it_learns_to_draw_the_digit_asked_for(digits: Mnist, run: Run):
    """420 steps on 700 digits: blurred ones, but each class's mean is most like the real mean of that very class."""
    fitted = run_small(digits, replace(run, epochs=2), channels=16, passes=15)
    labels = torch.arange(500) % CLASSES
    drawn = mean_digits(draw(fitted.task.kept, labels, seed=1), labels)
    real = mean_digits(pixels(digits.train), torch.from_numpy(digits.train.labels))
    alike = torch.corrcoef(torch.cat([drawn, real]))[:CLASSES, CLASSES:]  # (drawn, real)
    assert alike.argmax(dim=1).tolist() == list(range(CLASSES))
    assert alike.diag().min() > 0.5  # 0.64 and 0.66 with two seeds
    assert fitted.curves["validation_frechet"][-1] < 0.2 * 370  # of an untrained generator; measured 41 to 44
    assert fitted.curves["validation_recognised"][-1] > 0.4  # chance is 0.1; measured 0.67 to 0.83


class Interrupted(Adversarial):
    """Dies when its second epoch begins."""

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 1:
            raise ConnectionAbortedError


def test_a_resumed_run_has_the_figures_and_the_weights_of_an_uninterrupted_one(digits: Mnist, run: Run):
    whole = run_small(digits, replace(run, name="whole"))
    with pytest.raises(ConnectionAbortedError):
        run_small(digits, run, Interrupted)
    torch.rand(11)  # whatever happens between the two
    resumed = run_small(digits, replace(run, resume=True))
    assert resumed.curves == whole.curves
    for name, weight in whole.task.state_dict().items():
        torch.testing.assert_close(resumed.task.state_dict()[name], weight, rtol=0, atol=0)


def test_settled_statistics_are_those_of_the_layers_inputs() -> None:
    """Against the mean and variance of the first layer's output over many latents, computed here in one pass."""
    torch.manual_seed(0)
    generator = Generator(4, 8)
    settle(generator, torch.Generator().manual_seed(3))
    assert not generator.training
    latent, label = torch.randn(200_000, LATENT), torch.randint(CLASSES, (200_000,))
    with torch.inference_mode():
        inputs = generator.hidden(torch.cat([latent, nn.functional.one_hot(label, CLASSES).float()], dim=1))
    torch.testing.assert_close(generator.norm1.running_mean, inputs.mean(dim=0), rtol=0, atol=0.02)
    torch.testing.assert_close(generator.norm1.running_var, inputs.var(dim=0), rtol=0.05, atol=0)
    assert generator.norm1.momentum == pytest.approx(0.1)  # as it was


def test_the_penalty_is_half_gamma_times_the_squared_slope() -> None:
    """A discriminator that is linear in the image has the same slope, its weights, everywhere."""

    class Linear(Discriminator):
        def forward(self, image: Tensor, label: Tensor) -> Tensor:
            return (image / 127.5 - 1.0).flatten(1).sum(dim=1, keepdim=True) * 0.5

    task = Adversarial(Generator(4, 8), Linear(4, 8), Judge(JUDGE), replace(QUICK, gradient_penalty=0.3, penalty_every=7))
    penalty = task._penalty(torch.rand(5, 1, 28, 28) * 255, torch.arange(5))
    assert float(penalty.detach()) == pytest.approx(0.3 / 2 * 7 * 784 * 0.25, rel=1e-4)


def test_rates_are_kept_for_half_of_the_run_and_then_fall() -> None:
    assert [falling(progress) for progress in (0.0, 0.5, 0.75, 1.0)] == pytest.approx([1.0, 1.0, 0.5, 0.02])


TWO_PROCESSES = """
import sys
from pathlib import Path

import numpy as np
import torch

from training.adversarial import Adversarial, Contest
from training.batches import Rows, loader
from training.fit import Run, fit, start
from training.judge import Judge
from training.networks.mnist_gan import Discriminator, Generator

samples, judge, folder = map(Path, sys.argv[1:])
torch.set_num_threads(1)


class Telling(Adversarial):
    def on_train_end(self):
        sums = [float(sum(weight.double().abs().sum() for weight in net.parameters())) for net in (self.generator, self.discriminator)]
        (folder / f"rank{self.global_rank}").write_text(repr(sums))


with np.load(samples) as arrays:
    rows = Rows(torch.from_numpy(arrays["train_pixels"]).unsqueeze(1), torch.from_numpy(arrays["train_labels"].astype(np.int64)))
run = Run("two", folder, epochs=1, device="cpu", devices=2, monitor="validation_frechet", quiet=True)
start(run)
fit(Telling(Generator(4, 8), Discriminator(4, 8), Judge(judge), Contest()), loader(rows, 50, shuffle_seed=0), loader(rows, 350), run)
"""


@pytest.mark.slow
def test_two_processes_train_the_same_two_networks(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(TWO_PROCESSES)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    options = [str(ROOT / "tests" / "data" / "mnist_1000.npz"), str(JUDGE), str(tmp_path)]
    done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "rank0").read_text() == (tmp_path / "rank1").read_text()

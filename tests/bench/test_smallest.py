"""What Captum is given in the comparison is what Captum itself would find, and no more steps than that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients

from bench.captum import LARGE, reference
from bench.contestants import TOLERANCE, Contestant, mnist_module
from bench.smallest import Slopes, smallest_steps
from service.explain.loading import load
from service.repository.bundle import Location, read_bundle

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "models" / "mnist-cnn" / "1"
torch.set_num_threads(1)


class Walk:
    """A contestant with one number to an instance, whose slope is a random walk along the path. Counts the slopes it was asked for."""

    def __init__(self, seed: int) -> None:
        steps = np.random.default_rng(seed).normal(size=2**14)
        self.fine = 40 * np.cumsum(steps) / np.sqrt(len(steps)) + 3
        self.asked = 0

    def slopes(self, fractions: np.ndarray) -> np.ndarray:
        return self.fine[np.clip((fractions * len(self.fine)).astype(int), 0, len(self.fine) - 1)]

    def point(self, _: int) -> torch.Tensor:
        return torch.ones(1, 1)

    def gradients(self, _: int, fractions: np.ndarray, rows: int) -> Iterator[torch.Tensor]:
        self.asked += len(fractions)
        for start in range(0, len(fractions), rows):
            yield torch.from_numpy(self.slopes(fractions[start : start + rows]))[:, None]

    def completeness(self, _: int, total: float, spread: float = 0.0) -> float:
        risen = self.fine.mean()
        return max(0.0, abs(total - risen) - spread) / abs(risen)


def test_no_smaller_step_count_reaches_the_tolerance_in_captum() -> None:
    with np.load(ROOT / "tests" / "data" / "mnist_1000.npz") as file:
        digits = file["test_pixels"][:3].reshape(-1, 1, 28, 28).astype(np.float32)
    module = mnist_module(FOLDER / "model.onnx")
    one = Contestant("mnist-cnn", module, load(read_bundle(Location("mnist-cnn", 1, FOLDER))), digits)
    for i in range(3):
        steps, reached = smallest_steps(one, i)
        assert reached
        assert smallest_steps(one, i, reference(one, i, LARGE)[1]) == (steps, True)  # what is given up would not have reached it
        x = torch.from_numpy(digits[i : i + 1])
        with torch.no_grad():
            outputs = module(torch.cat([x, torch.zeros_like(x)]))
        target = int(outputs[0].argmax())
        moved = float(outputs[0, target] - outputs[1, target])
        errors = [
            abs(float(IntegratedGradients(module).attribute(x, torch.zeros_like(x), target, n_steps=n).sum()) - moved) / abs(moved)
            for n in range(1, steps + 1)
        ]
        assert errors[-1] <= TOLERANCE * 1.01
        assert min(errors[:-1], default=1.0) > TOLERANCE * 0.99


@pytest.mark.parametrize("known", [64, 256])
def test_giving_up_early_finds_the_same_number_for_fewer_rows(known: int) -> None:
    rows = np.zeros(2)
    places = (np.arange(known) + 0.5) / known
    for seed in range(30):
        thorough, quick = Walk(seed), Walk(seed)
        wanted = smallest_steps(thorough, 0)  # type: ignore[arg-type]
        assert smallest_steps(quick, 0, Slopes(places, quick.slopes(places))) == wanted  # type: ignore[arg-type]
        rows += thorough.asked, quick.asked
    assert rows[1] < rows[0]


def test_a_guess_is_as_uncertain_as_it_says() -> None:
    places, between = (np.arange(128) + 0.5) / 128, (np.polynomial.legendre.leggauss(61)[0] + 1) / 2
    off = []
    for seed in range(100):
        walk = Walk(seed)
        guesses, variances = Slopes(places, walk.slopes(places)).guess(between)
        off.append((walk.slopes(between) - guesses) / np.sqrt(variances))
    assert 0.8 < np.std(off) < 1.2


def test_what_was_computed_is_known_once() -> None:
    slopes = Slopes(np.array([0.25, 0.75]), np.array([1.0, 2.0])).among(np.array([0.5, 0.25]), np.array([9.0, 7.0]))
    assert slopes.places.tolist() == [0.25, 0.5, 0.75]
    assert slopes.values.tolist() == [1.0, 9.0, 2.0]
    assert [part.tolist() for part in slopes.guess(np.array([0.5]))] == [[9.0], [0.0]]

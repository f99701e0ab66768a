"""What Captum is given in the comparison is what Captum itself would find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from captum.attr import IntegratedGradients

from bench.captum import LARGE, SMALL, smallest_steps
from bench.contestants import TOLERANCE, Contestant, mnist_module
from service.explain.loading import load
from service.repository.bundle import Location, read_bundle

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "models" / "mnist-cnn" / "1"
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    with np.load(ROOT / "tests" / "data" / "mnist_1000.npz") as file:
        return file["test_pixels"][:6].reshape(-1, 1, 28, 28).astype(np.float32)


def test_the_plain_module_computes_what_the_bundle_does(digits: np.ndarray) -> None:
    session = ort.InferenceSession(FOLDER / "model.onnx", providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"image": digits})
    np.testing.assert_allclose(mnist_module(FOLDER / "model.onnx")(torch.from_numpy(digits)).numpy(), wanted, rtol=1e-4, atol=1e-4)


def test_no_smaller_step_count_reaches_the_tolerance_in_captum(digits: np.ndarray) -> None:
    module = mnist_module(FOLDER / "model.onnx")
    one = Contestant("mnist-cnn", module, load(read_bundle(Location("mnist-cnn", 1, FOLDER))), digits)
    for i in range(3):
        steps, reached = smallest_steps(one, i, SMALL)
        assert reached
        assert smallest_steps(one, i, LARGE) == (steps, True)  # what is skipped there would not have reached it
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

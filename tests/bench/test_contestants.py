"""The two halves of a contest compute the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from bench.contestants import mnist_module

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

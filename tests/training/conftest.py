"""Real digits for every test of training; the whole datasets where WHYSERVE_DATA says that they are here."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from training.datasets import Images, Mnist

SAMPLES = Path(__file__).parents[1] / "data" / "mnist_1000.npz"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits() -> Mnist:
    """700 training digits of MNIST, 70 a class, and 300 of its test digits as validation and test."""
    with np.load(SAMPLES) as arrays:
        train = Images(arrays["train_pixels"], arrays["train_labels"].astype(np.int64))
        test = Images(arrays["test_pixels"], arrays["test_labels"].astype(np.int64))
    return Mnist(train=train, validation=test, test=test)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of the whole datasets; tests that need it are skipped where there is none."""
    configured = os.environ.get("WHYSERVE_DATA")
    if not configured:
        pytest.skip("needs the whole dataset: set WHYSERVE_DATA")
    return Path(configured)

"""F of a row: closed forms, whichever of numpy and torch computes it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from service.explain.scalar import Scalar
from service.explain.targets import Target

LOGITS = np.asarray([[0.0, 1.0, -2.0], [3.0, 3.0, 3.0]], np.float32)
SECOND = Target((1,), 1.0, 1)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize(
    ("scalar", "expected"),
    [
        (Scalar("y", SECOND, "logit"), LOGITS[:, 1]),
        (Scalar("y", SECOND, "probability", "softmax"), softmax(LOGITS)[:, 1]),
        (Scalar("y", SECOND, "probability", "sigmoid"), 1 / (1 + np.exp(-LOGITS[:, 1].astype(np.float64)))),
        (Scalar("y", Target((1,), -1.0, 0), "probability", "sigmoid", offset=1.0), 1 / (1 + np.exp(LOGITS[:, 1].astype(np.float64)))),
        (Scalar("y", Target((1,), -1.0, 0), "probability", offset=1.0), 1 - LOGITS[:, 1]),
        (Scalar("y", Target((slice(0, 2),)), "value"), LOGITS[:, 0] + LOGITS[:, 1]),
    ],
)
def test_f_is_its_closed_form(scalar: Scalar, expected: np.ndarray) -> None:
    found = scalar.of_array(LOGITS)
    assert found.dtype == np.float32
    assert found == pytest.approx(expected, rel=1e-6)
    assert scalar.of(torch.from_numpy(LOGITS)).numpy() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("scalar", [Scalar("y", SECOND, "logit"), Scalar("y", Target((slice(0, 2),), -1.0), "value")])
def test_the_slope_of_a_linear_f_is_its_gradient(scalar: Scalar) -> None:
    values = torch.from_numpy(LOGITS.copy()).requires_grad_()
    scalar.of(values).sum().backward()  # type: ignore[no-untyped-call]
    assert scalar.linear
    assert values.grad is not None
    assert (scalar.slope(LOGITS.shape) == values.grad.numpy()).all()

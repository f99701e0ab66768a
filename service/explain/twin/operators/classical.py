"""The differentiable operators of `ai.onnx.ml`: scalings and linear models, as scikit-learn's are exported.

Trees, support vectors and encoders are computed in numpy: they are piecewise constant, or explained without gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from service.explain.twin.registry import hides, in_domain

ml = in_domain("ai.onnx.ml")


def _row(values: Sequence[float], x: Tensor) -> Tensor:
    return torch.tensor(values, dtype=x.dtype if x.is_floating_point() else torch.float32, device=x.device)


@ml
def Scaler(X: Tensor, *, offset: Sequence[float], scale: Sequence[float]) -> Tensor:
    return ((X - _row(offset, X)) * _row(scale, X)).to(torch.float32 if not X.requires_grad else X.dtype)


@ml
def Normalizer(X: Tensor, *, norm: str = "MAX") -> Tensor:
    match norm:
        case "MAX":
            found = X.amax(1, keepdim=True)
        case "L1":
            found = X.abs().sum(1, keepdim=True)
        case "L2":
            found = (X * X).sum(1, keepdim=True).sqrt()
        case _:
            raise NotImplementedError(f"norm {norm}")
    return X / torch.where(found == 0, torch.ones_like(found), found)


@ml
def Imputer(
    X: Tensor,
    *,
    imputed_value_floats: Sequence[float] = (),
    imputed_value_int64s: Sequence[int] = (),
    replaced_value_float: float = 0.0,
    replaced_value_int64: int = 0,
) -> Tensor:
    if not X.is_floating_point():
        return torch.where(X == replaced_value_int64, torch.tensor(imputed_value_int64s, device=X.device), X)
    missing = X.isnan() if np.isnan(replaced_value_float) else torch.eq(X, replaced_value_float)
    return torch.where(missing, _row(imputed_value_floats, X), X)


@ml
def LinearRegressor(
    X: Tensor, *, coefficients: Sequence[float], intercepts: Sequence[float] = (), post_transform: str = "NONE", targets: int = 1
) -> Tensor:
    scores = _scores(X, coefficients, intercepts, targets)
    return _transformed(scores, post_transform)


@hides
@ml
def LinearClassifier(
    X: Tensor,
    *,
    classlabels_ints: Sequence[int] = (),
    classlabels_strings: Sequence[str] = (),
    coefficients: Sequence[float],
    intercepts: Sequence[float] = (),
    multi_class: int = 0,
    post_transform: str = "NONE",
) -> tuple[Tensor | np.ndarray, Tensor]:
    """Labels (N,) and scores (N, classes). Raises NotImplementedError for two classes scored by one row of coefficients."""
    labels = list(classlabels_ints or classlabels_strings)
    if len(coefficients) != len(labels) * X.shape[1]:
        raise NotImplementedError("LinearClassifier with one row of coefficients for two classes")
    scores = _scores(X, coefficients, intercepts, len(labels))
    chosen = scores.detach().argmax(1)
    named = torch.tensor(labels, device=X.device)[chosen] if classlabels_ints else np.asarray(labels, object)[chosen.cpu().numpy()]
    return named, _transformed(scores, post_transform)


def _scores(x: Tensor, coefficients: Sequence[float], intercepts: Sequence[float], rows: int) -> Tensor:
    weight = _row(coefficients, x).reshape(rows, -1)  # (rows, features)
    scores = x.to(weight.dtype) @ weight.T
    return scores + _row(intercepts, x) if intercepts else scores


_TRANSFORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "NONE": lambda x: x,
    "SOFTMAX": lambda x: x.softmax(-1),
    "LOGISTIC": torch.sigmoid,
}


def _transformed(scores: Tensor, post_transform: str) -> Tensor:
    if post_transform not in _TRANSFORMS:
        raise NotImplementedError(f"post_transform {post_transform}")
    return _TRANSFORMS[post_transform](scores)


@ml
def FeatureVectorizer(*X: Tensor, inputdimensions: Sequence[int] = ()) -> Tensor:
    return torch.cat([x.float() if not x.is_floating_point() else x for x in X], 1)

"""Resampling of images: Resize (from opset 11), Upsample and GridSample.

Resize is a product of one-axis interpolations, each a matrix of (output size, input size) weights built as the
specification says; so every mode, coordinate transformation and antialiasing is one code path, exact and differentiable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from service.explain.twin.registry import operator


@dataclass(frozen=True, slots=True)
class Interpolation:
    """How one axis is resampled; the fields are Resize's attributes."""

    mode: str
    transformation: str
    nearest: str
    cubic: float
    exclude_outside: bool
    antialias: bool
    extrapolation: float

    def positions(self, size: int, target: int, scale: float, roi: tuple[float, float]) -> Tensor:
        """Where each output pixel lies on the input's axis, in pixels (float64, (target,))."""
        x = torch.arange(target, dtype=torch.float64)
        match self.transformation:
            case "half_pixel":
                return (x + 0.5) / scale - 0.5
            case "half_pixel_symmetric":
                adjustment = target / (scale * size)
                return size / 2 * (1 - adjustment) + (x + 0.5) / scale - 0.5
            case "pytorch_half_pixel":
                return (x + 0.5) / scale - 0.5 if target > 1 else torch.zeros(1, dtype=torch.float64)
            case "align_corners":
                return x * (size - 1) / (target - 1) if target > 1 else torch.zeros(1, dtype=torch.float64)
            case "asymmetric":
                return x / scale
            case "tf_half_pixel_for_nn":
                return (x + 0.5) / scale
            case "tf_crop_and_resize":
                start, end = roi
                if target > 1:
                    return start * (size - 1) + x * (end - start) * (size - 1) / (target - 1)
                return torch.full((1,), 0.5 * (start + end) * (size - 1), dtype=torch.float64)
            case other:
                raise NotImplementedError(f"Resize with coordinate_transformation_mode {other!r}")

    def weights(self, size: int, target: int, scale: float, roi: tuple[float, float]) -> tuple[Tensor, Tensor]:
        """The matrix (target, size) in float64, and which output pixels lie outside (target,)."""
        at = self.positions(size, target, scale, roi)
        outside = (at < 0) | (at > size - 1) if self.transformation == "tf_crop_and_resize" else torch.zeros(target, dtype=torch.bool)
        if self.mode == "nearest":
            chosen = self._nearest(at).clamp(0, size - 1).long()
            return F.one_hot(chosen, size).double(), outside
        shrink = min(scale, 1.0) if self.antialias else 1.0
        kernel, reach = (_triangle, 1.0) if self.mode == "linear" else (_cubic(self.cubic), 2.0)
        support = math.ceil(reach / shrink)
        first = torch.floor(at).long() - support + 1
        taps = first.unsqueeze(1) + torch.arange(2 * support)  # (target, taps)
        values = kernel((taps - at.unsqueeze(1)) * shrink)
        inside = (taps >= 0) & (taps < size)
        if self.exclude_outside:
            values = torch.where(inside, values, 0)
        values = values / values.sum(1, keepdim=True)
        matrix = torch.zeros(target, size, dtype=torch.float64).scatter_add(1, taps.clamp(0, size - 1), values)
        return matrix, outside

    def _nearest(self, at: Tensor) -> Tensor:
        match self.nearest:
            case "round_prefer_ceil":
                return torch.floor(at + 0.5)
            case "floor":
                return torch.floor(at)
            case "ceil":
                return torch.ceil(at)
            case _:  # round_prefer_floor
                return torch.ceil(at - 0.5)


def _triangle(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


def _cubic(a: float) -> Callable[[Tensor], Tensor]:
    """Keys' kernel."""

    def kernel(x: Tensor) -> Tensor:
        x = x.abs()
        near = (a + 2) * x**3 - (a + 3) * x**2 + 1
        far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
        return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))

    return kernel


@operator
def Resize_11(
    X: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    chosen = [a % X.dim() for a in axes] if axes is not None else list(range(X.dim()))
    how = Interpolation(
        mode, coordinate_transformation_mode, nearest_mode, cubic_coeff_a, bool(exclude_outside), bool(antialias), extrapolation_value
    )
    input_sizes = [X.shape[a] for a in chosen]
    if sizes is not None and sizes.numel():
        targets, factors = _targets(input_sizes, sizes.tolist(), keep_aspect_ratio_policy)
    else:
        assert scales is not None  # the specification: one of the two is given
        factors = scales.double().tolist()
        targets = [math.floor(n * f) for n, f in zip(input_sizes, factors, strict=True)]
    region = roi.tolist() if roi is not None and roi.numel() else [0.0] * len(chosen) + [1.0] * len(chosen)
    spans = list(zip(region[: len(chosen)], region[len(chosen) :], strict=True))
    return _resample(X, how, chosen, targets, factors, spans)


def _targets(inputs: Sequence[int], sizes: Sequence[int], policy: str) -> tuple[list[int], list[float]]:
    factors = [t / n for n, t in zip(inputs, sizes, strict=True)]
    if policy == "stretch":
        return list(sizes), factors
    factor = min(factors) if policy == "not_larger" else max(factors)
    return [math.floor(n * factor + 0.5) for n in inputs], [factor] * len(inputs)


def _resample(
    x: Tensor,
    how: Interpolation,
    axes: Sequence[int],
    targets: Sequence[int],
    factors: Sequence[float],
    spans: Sequence[tuple[float, float]],
) -> Tensor:
    kind = x.dtype
    result = x if x.is_floating_point() else x.double()
    crop = how.transformation == "tf_crop_and_resize"
    for axis, target, factor, span in zip(axes, targets, factors, spans, strict=True):
        if target == x.shape[axis] and factor == 1 and not crop:
            continue
        matrix, outside = how.weights(x.shape[axis], target, factor, span)
        result = torch.tensordot(result, matrix.to(result), ([axis], [1])).movedim(-1, axis)
        if crop and bool(outside.any()):
            mask = outside.to(x.device).reshape(-1, *(1,) * (x.dim() - 1 - axis))
            result = torch.where(mask, torch.full_like(result, how.extrapolation), result)
    return result if kind.is_floating_point else result.round().to(kind)


@operator
def Resize_10(X: Tensor, scales: Tensor, *, mode: str = "nearest") -> Tensor:
    """As of opset 10: asymmetric, and nearest means floor."""
    return Resize_11(X, None, scales, mode=mode, coordinate_transformation_mode="asymmetric", nearest_mode="floor")


@operator
def Upsample_9(X: Tensor, scales: Tensor, *, mode: str = "nearest") -> Tensor:
    return Resize_10(X, scales, mode=mode)


@operator
def Upsample(X: Tensor, *, scales: Sequence[float], mode: str = "nearest") -> Tensor:
    return Resize_10(X, torch.tensor(scales), mode=mode)


@operator
def GridSample(X: Tensor, grid: Tensor, *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros") -> Tensor:
    names = {"linear": "bilinear", "cubic": "bicubic"}
    return F.grid_sample(X, grid, names.get(mode, mode), padding_mode, bool(align_corners))

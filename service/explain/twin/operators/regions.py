"""Regions of interest resampled to one size, as detectors do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from service.explain.twin.registry import operator


@operator
def RoiAlign_16(
    X: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Tensor:
    """X (N, C, H, W), rois (R, 4) as x1 y1 x2 y2, to (R, C, output_height, output_width) by bilinear samples (He et al. 2017,
    arXiv:1703.06870)."""
    aligned = coordinate_transformation_mode == "half_pixel"
    parts = []
    for roi, index in zip(rois, batch_indices.tolist(), strict=True):
        corners = roi * spatial_scale - (0.5 if aligned else 0.0)
        sizes = corners[2:] - corners[:2]
        sizes = sizes if aligned else sizes.clamp(min=1.0)
        samples = []
        for size, start, bins in ((sizes[1], corners[1], output_height), (sizes[0], corners[0], output_width)):
            count = sampling_ratio or max(int(torch.ceil(size / bins)), 1)
            places = (torch.arange(bins * count, device=X.device) + 0.5) / count  # in bins
            samples.append((start + places.to(X.dtype) * size / bins, count))
        (y, per_y), (x, per_x) = samples
        parts.append(_pooled(X[index], y, x, (output_height, per_y, output_width, per_x), mode))
    empty = X.new_zeros(0, X.shape[1], output_height, output_width)
    return torch.stack(parts) if parts else empty


def _pooled(plane: Tensor, y: Tensor, x: Tensor, shape: tuple[int, int, int, int], mode: str) -> Tensor:
    """plane (C, H, W) sampled at each y and x, then averaged (or the largest taken) over each bin."""
    (y0, y1, wy, inside_y), (x0, x1, wx, inside_x) = (_neighbours(p, n) for p, n in ((y, plane.shape[1]), (x, plane.shape[2])))
    wy, inside = wy.unsqueeze(1), inside_y.unsqueeze(1) & inside_x
    corners = (
        ((1 - wy) * (1 - wx), plane[:, y0][:, :, x0]),
        ((1 - wy) * wx, plane[:, y0][:, :, x1]),
        (wy * (1 - wx), plane[:, y1][:, :, x0]),
        (wy * wx, plane[:, y1][:, :, x1]),
    )
    if mode == "avg":
        values = sum((w * v for w, v in corners), torch.zeros_like(corners[0][1]))
        return torch.where(inside, values, 0.0).reshape(-1, *shape).mean((2, 4))
    largest = torch.stack([w * v for w, v in corners]).amax(0)  # the specification's: the largest of the weighted corners
    return torch.where(inside, largest, 0.0).reshape(-1, *shape).amax((2, 4))


def _neighbours(at: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The pixels before and after each place, the weight of the latter, and whether the place is near the picture at all."""
    inside = (at >= -1) & (at <= size)
    at = at.clamp(min=0)
    before = at.floor().long().clamp(max=size - 1)
    after = (before + 1).clamp(max=size - 1)
    return before, after, torch.where(before >= size - 1, torch.zeros_like(at), at - before), inside


@operator
def RoiAlign(
    X: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    *,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Tensor:
    return RoiAlign_16(
        X,
        rois,
        batch_indices,
        coordinate_transformation_mode="output_half_pixel",
        mode=mode,
        output_height=output_height,
        output_width=output_width,
        sampling_ratio=sampling_ratio,
        spatial_scale=spatial_scale,
    )


@operator
def MaxRoiPool(X: Tensor, rois: Tensor, *, pooled_shape: Sequence[int], spatial_scale: float = 1.0) -> Tensor:
    """X (N, C, H, W), rois (R, 5) as batch x1 y1 x2 y2, both corners within, to (R, C, height, width); 0 of an empty bin."""
    corners = torch.floor(rois[:, 1:] * spatial_scale + 0.5).long().tolist()
    return torch.stack([_largest(X[int(b)], c, pooled_shape) for b, c in zip(rois[:, 0].tolist(), corners, strict=True)])


def _largest(plane: Tensor, corners: Sequence[int], shape: Sequence[int]) -> Tensor:
    rows = _bins(corners[1], corners[3], shape[0], plane.shape[1])
    columns = _bins(corners[0], corners[2], shape[1], plane.shape[2])
    cells = [
        plane[:, y0:y1, x0:x1].amax((1, 2)) if y1 > y0 and x1 > x0 else plane.new_zeros(plane.shape[0])
        for y0, y1 in rows
        for x0, x1 in columns
    ]
    return torch.stack(cells, 1).reshape(-1, *shape)


def _bins(first: int, last: int, count: int, size: int) -> list[tuple[int, int]]:
    extent = max(last - first + 1, 1)
    ends = [(first + b * extent // count, first - (-(b + 1) * extent // count)) for b in range(count)]
    return [(min(max(a, 0), size), min(max(b, 0), size)) for a, b in ends]

"""Where values stand: shapes, axes, joining and splitting. Plain functions all: modules here would make LRP fail."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from service.explain.twin.operators.convolution import pad
from service.explain.twin.registry import operator


@operator
def Reshape(data: Tensor, shape: Tensor, *, allowzero: int = 0) -> Tensor:
    wanted: list[int] = shape.tolist()
    if not allowzero:
        wanted = [data.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    return data.reshape(wanted)


@operator
def Flatten(input: Tensor, *, axis: int = 1) -> Tensor:
    first = 1
    for size in input.shape[: axis if axis >= 0 else input.dim() + axis]:
        first *= size
    return input.reshape(first, -1) if input.numel() else input.reshape(first, input.numel() // first if first else 0)


@operator
def Squeeze(data: Tensor, *, axes: Sequence[int] | None = None) -> Tensor:
    return data.squeeze() if axes is None else data.squeeze(tuple(axes))


@operator
def Squeeze_13(data: Tensor, axes: Tensor | None = None) -> Tensor:
    return data.squeeze() if axes is None else data.squeeze(tuple(axes.reshape(-1).tolist()))


@operator
def Unsqueeze(data: Tensor, *, axes: Sequence[int]) -> Tensor:
    rank = data.dim() + len(axes)
    for axis in sorted(a % rank for a in axes):
        data = data.unsqueeze(axis)
    return data


@operator
def Unsqueeze_13(data: Tensor, axes: Tensor) -> Tensor:
    return Unsqueeze(data, axes=axes.reshape(-1).tolist())


@operator
def Transpose(data: Tensor, *, perm: Sequence[int] | None = None) -> Tensor:
    return data.permute(tuple(perm) if perm is not None else tuple(range(data.dim() - 1, -1, -1)))


@operator
def Concat(*inputs: Tensor, axis: int) -> Tensor:
    return torch.cat(inputs, axis)


@operator
def Split(input: Tensor, *, axis: int = 0, split: Sequence[int] | None = None, outputs: int = 1) -> tuple[Tensor, ...]:
    return torch.split(input, list(split) if split else input.shape[axis] // outputs, axis)


@operator
def Split_13(
    input: Tensor, split: Tensor | None = None, *, axis: int = 0, num_outputs: int | None = None, outputs: int = 1
) -> tuple[Tensor, ...]:
    if split is not None:
        return torch.split(input, split.tolist(), axis)
    count, size = num_outputs or outputs, input.shape[axis]
    each = -(-size // count)  # the last may be smaller
    return torch.split(input, [each] * (count - 1) + [size - each * (count - 1)], axis)


@operator
def Slice(data: Tensor, *, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None = None) -> Tensor:
    return _slice(data, starts, ends, axes, None)


@operator
def Slice_10(data: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None) -> Tensor:
    return _slice(data, starts.tolist(), ends.tolist(), None if axes is None else axes.tolist(), None if steps is None else steps.tolist())


def _slice(data: Tensor, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None, steps: Sequence[int] | None) -> Tensor:
    for start, end, axis, step in zip(starts, ends, axes or range(len(starts)), steps or [1] * len(starts), strict=True):
        size = data.shape[axis]
        if step > 0:
            first, last, _ = slice(start, end, step).indices(size)
            data = data[(slice(None),) * (axis % data.dim()) + (slice(first, max(first, last), step),)]
        else:  # torch steps forwards only
            # An end before the first element (below -size) means down to it and including it: None, as Python has it.
            stop = None if end < -size else end
            places = torch.tensor(list(range(*slice(start, stop, step).indices(size))), dtype=torch.long, device=data.device)
            data = data.index_select(axis, places)
    return data


@operator
def Tile(input: Tensor, repeats: Tensor) -> Tensor:
    return input.repeat(tuple(repeats.tolist()))


@operator
def Expand(input: Tensor, shape: Tensor) -> Tensor:
    return input.expand(np.broadcast_shapes(input.shape, tuple(shape.tolist())))


@operator
def Pad(data: Tensor, *, mode: str = "constant", pads: Sequence[int], value: float = 0.0) -> Tensor:
    return _pad(data, pads, range(data.dim()), value, mode)


@operator
def Pad_11(
    data: Tensor, pads: Tensor, constant_value: Tensor | None = None, axes: Tensor | None = None, *, mode: str = "constant"
) -> Tensor:
    chosen = range(data.dim()) if axes is None else axes.tolist()
    if constant_value is None or not constant_value.numel():
        return _pad(data, pads.tolist(), chosen, 0, mode)
    padded = _pad(data, pads.tolist(), chosen, constant_value.item(), mode)
    if not constant_value.requires_grad or mode != "constant":
        return padded
    border = _pad(torch.zeros_like(data), pads.tolist(), chosen, 1, mode)
    return padded + border * (constant_value - constant_value.detach()).reshape(())  # the value's own gradient


def _pad(data: Tensor, pads: Sequence[int], axes: Sequence[int], value: float, mode: str) -> Tensor:
    amounts = [(0, 0)] * data.dim()
    for axis, begin, end in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        amounts[axis] = (begin, end)
    if mode == "constant":
        if data.dtype == torch.bool:
            return pad(data.to(torch.uint8), amounts, value).bool()
        return pad(data, amounts, value)
    # By index, axis by axis: torch's own modes don't cover every rank and integer type.
    for axis, (begin, end) in enumerate(amounts):
        if begin or end:
            data = data.index_select(axis, _border(data.shape[axis], begin, end, mode, data.device))
    return data


def _border(size: int, begin: int, end: int, mode: str, device: torch.device) -> Tensor:
    places = torch.arange(-begin, size + end, device=device)
    if mode == "edge":
        return places.clamp(0, size - 1)
    if mode == "wrap":
        return places % size
    period = max(2 * (size - 1), 1)
    folded = places % period
    return torch.where(folded < size, folded, period - folded)


@operator
def DepthToSpace(input: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    n, c, h, w = input.shape
    b = blocksize
    if mode == "CRD":
        return F.pixel_shuffle(input, b)
    return input.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)


@operator
def SpaceToDepth(input: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    n, c, h, w = input.shape
    b = blocksize
    if mode == "CRD":
        return F.pixel_unshuffle(input, b)
    return input.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b**2, h // b, w // b)


@operator
def Trilu(input: Tensor, k: Tensor | None = None, *, upper: int = 1) -> Tensor:
    diagonal = 0 if k is None else int(k)
    return torch.triu(input, diagonal) if upper else torch.tril(input, diagonal)


@operator
def ReverseSequence(input: Tensor, sequence_lens: Tensor, *, batch_axis: int = 1, time_axis: int = 0) -> Tensor:
    by_time = input.movedim((time_axis, batch_axis), (0, 1))  # (T, N, ..)
    return reverse_by_length(by_time, sequence_lens).movedim((0, 1), (time_axis, batch_axis))


def reverse_by_length(x: Tensor, lengths: Tensor) -> Tensor:
    """Each row of x (T, N, ..) turned round within its own length (N,); what lies beyond stays."""
    time = torch.arange(x.shape[0], device=x.device).unsqueeze(1)  # (T, 1)
    places = torch.where(time < lengths, lengths - 1 - time, time).long()  # (T, N)
    return x.gather(0, places.reshape(*places.shape, *(1,) * (x.dim() - 2)).expand(x.shape))

"""Fourier transforms, and windows put back together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from service.explain.twin.registry import operator


@operator
def DFT(input: Tensor, dft_length: Tensor | None = None, *, axis: int = 1, inverse: int = 0, onesided: int = 0) -> Tensor:
    return _dft(input, dft_length, axis, inverse=bool(inverse), onesided=bool(onesided))


@operator
def DFT_20(input: Tensor, dft_length: Tensor | None = None, axis: Tensor | None = None, *, inverse: int = 0, onesided: int = 0) -> Tensor:
    return _dft(input, dft_length, -2 if axis is None else int(axis), inverse=bool(inverse), onesided=bool(onesided))


def _dft(x: Tensor, length: Tensor | None, axis: int, *, inverse: bool, onesided: bool) -> Tensor:
    """x (.., 1) real or (.., 2) complex."""
    size, axis = None if length is None else int(length), axis % x.dim()
    signal = _complex(x)
    if inverse and onesided:
        result: Tensor = torch.fft.irfft(signal, size, axis)
        return result.unsqueeze(-1)
    if onesided:
        return torch.view_as_real(torch.fft.rfft(x[..., 0], size, axis))
    return torch.view_as_real(torch.fft.ifft(signal, size, axis) if inverse else torch.fft.fft(signal, size, axis))


def _complex(x: Tensor) -> Tensor:
    imaginary = x[..., 1] if x.shape[-1] == 2 else torch.zeros_like(x[..., 0])
    return torch.complex(x[..., 0], imaginary)


@operator
def STFT(
    signal: Tensor, frame_step: Tensor, window: Tensor | None = None, frame_length: Tensor | None = None, *, onesided: int = 1
) -> Tensor:
    """signal (N, T, 1 or 2) to (N, frames, bins, 2)."""
    if frame_length is not None:
        length = int(frame_length)
    elif window is not None:
        length = window.shape[0]
    else:
        raise ValueError("STFT needs a window or a frame_length")
    x = signal[..., 0] if signal.shape[-1] == 1 else _complex(signal)
    frames = x.unfold(1, length, int(frame_step))  # (N, frames, length)
    if window is not None:
        frames = frames * window
    whole = torch.fft.fft(frames)
    return torch.view_as_real(whole[..., : length // 2 + 1] if onesided else whole)


@operator
def Col2Im(
    input: Tensor,
    image_shape: Tensor,
    block_shape: Tensor,
    *,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """input (N, C * block elements, blocks) to (N, C, image..), what overlaps added up."""
    image, block = image_shape.tolist(), block_shape.tolist()
    rank = len(image)
    dilations, strides, pads = dilations or [1] * rank, strides or [1] * rank, pads or [0] * (2 * rank)
    padded = [n + pads[d] + pads[d + rank] for d, n in enumerate(image)]
    places = torch.zeros((1,) * (2 * rank), dtype=torch.long, device=input.device)  # (block.., blocks..)
    for d in range(rank):
        count = (padded[d] - dilations[d] * (block[d] - 1) - 1) // strides[d] + 1
        within = (torch.arange(block[d], device=input.device) * dilations[d]).reshape(-1, *(1,) * (2 * rank - 1 - d))
        start = (torch.arange(count, device=input.device) * strides[d]).reshape(-1, *(1,) * (rank - 1 - d))
        places = places * padded[d] + within + start
    columns = input.reshape(input.shape[0], -1, places.numel())  # (N, C, block elements * blocks)
    canvas = columns.new_zeros(*columns.shape[:2], math.prod(padded))
    full = canvas.index_add(2, places.reshape(-1), columns).reshape(*columns.shape[:2], *padded)
    for d in range(rank):
        full = full.narrow(2 + d, pads[d], image[d])
    return full


@operator
def MaxUnpool(
    X: Tensor,
    I: Tensor,  # noqa: E741 - the specification's name
    output_shape: Tensor | None = None,
    *,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """The inverse of MaxPool: X's values at the places I in the flattened result, zero elsewhere.

    With an `output_shape` the places are in that shape, as ONNX Runtime reads the specification.
    """
    rank = len(kernel_shape)
    steps, cut = strides or [1] * rank, pads or [0] * (2 * rank)
    sizes = [(n - 1) * steps[d] - cut[d] - cut[d + rank] + kernel_shape[d] for d, n in enumerate(X.shape[2:])]
    shape = [*X.shape[:2], *sizes] if output_shape is None else output_shape.tolist()
    return X.new_zeros(math.prod(shape)).index_put((I.reshape(-1),), X.reshape(-1)).reshape(shape)


@operator
def TensorScatter(
    past_cache: Tensor, update: Tensor, write_indices: Tensor | None = None, *, axis: int = -2, mode: str = "linear"
) -> Tensor:
    """Each row's update written into its cache from its own place on; `circular` goes on at the beginning."""
    axis %= past_cache.dim()
    rows, steps = update.shape[0], update.shape[axis]
    start = torch.zeros(rows, dtype=torch.long, device=update.device) if write_indices is None else write_indices.long()
    places = start.unsqueeze(1) + torch.arange(steps, device=update.device)  # (N, S)
    places = places % past_cache.shape[axis] if mode == "circular" else places
    shape = [rows, *(1,) * (axis - 1), steps, *(1,) * (update.dim() - 1 - axis)]
    return past_cache.scatter(axis, places.reshape(shape).expand(update.shape), update)

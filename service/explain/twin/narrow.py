"""Convolutions of few input channels, such as a network's first one, with a gradient that comes as fast as their output.

The gradient in the input of a convolution with weights W (O, I, ..) is itself a convolution, of I output channels. Processors
compute a vector of channels at a time, so with I = 1 or 3 most of what they do is lost: in a ResNet-18 it is the most expensive
operator by far. Here it gives blocks of the input's elements instead of single ones: elements B apart in each axis see the same
weights, so B x B of them, side by side as I B² channels, are one convolution with the strides B / stride, whose result is then laid out
(the sub-pixel convolution of Shi et al. 2016, https://arxiv.org/abs/1609.05158, for the gradient). The sums are the same.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ENOUGH = 16
"""Channels that fill a vector of float32 (AVX-512)."""
Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
"""The layout in which a convolution reads its channels side by side, by spatial axes."""


def is_narrow(module: nn.Module) -> TypeGuard[Convolution]:
    """Whether it has few input channels, and none of what `Narrow` doesn't do."""
    return (
        isinstance(module, Convolution)
        and 2 * module.in_channels <= ENOUGH  # from 12 on torch's own way is as fast
        and module.groups == 1
        and set(module.dilation) == {1}
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


@dataclass(frozen=True, slots=True)
class _Axis:
    """How blocks of input elements along one axis hang together with the output.

    Element q * block + r has the output's elements q * stride + d, d = first .. last, by the weight r + padding - d * step.
    """

    kernel: int
    step: int
    """The convolution's stride."""
    padding: int
    block: int

    @property
    def stride(self) -> int:
        """Output elements from a block to the next."""
        return self.block // self.step

    @property
    def first(self) -> int:
        return min(-((self.kernel - 1 - r - self.padding) // self.step) for r in range(self.block))

    @property
    def last(self) -> int:
        return (self.block - 1 + self.padding) // self.step

    def taps(self) -> Tensor:
        """(block, taps): the weight's place, -1 where there is none."""
        places = torch.arange(self.block)[:, None] + self.padding - self.step * torch.arange(self.first, self.last + 1)
        return torch.where((places >= 0) & (places < self.kernel), places, -1)

    def blocks(self, size: int) -> int:
        """That cover an input of `size` elements."""
        return -(-size // self.block)

    def pads(self, size: int, out: int) -> tuple[int, int]:
        """What is missing before and after the output's `out` elements for an input of `size`; negative: too many."""
        return -self.first, (self.blocks(size) - 1) * self.stride + self.last - (out - 1)


class Narrow(nn.Module):
    """Computes what `convolution` does, (N, I, spatial..) to (N, O, spatial..); its gradient in the input by blocks, none in its
    weights."""

    blocks: Tensor

    def __init__(self, convolution: Convolution) -> None:
        super().__init__()
        self.convolution = convolution
        self._axes = _axes(convolution)
        self.register_buffer("blocks", _laid_out(_kernel(convolution.weight.detach(), self._axes)))

    def forward(self, x: Tensor) -> Tensor:
        return _ByBlocks.apply(x, self)  # type: ignore[no-any-return, no-untyped-call]

    def input_gradient(self, gradient: Tensor, sizes: Sequence[int]) -> Tensor:
        """(N, I, *sizes) from the gradient (N, O, spatial..) in the output."""
        axes, rows, channels = self._axes, len(gradient), self.convolution.in_channels
        pads = [axis.pads(size, out) for axis, size, out in zip(axes, sizes, gradient.shape[2:], strict=True)]
        inner = tuple(before for before, _ in pads)
        if any(before != after or before < 0 for before, after in pads):
            gradient = F.pad(gradient, [n for both in reversed(pads) for n in both])  # torch counts axes from the last
            inner = (0,) * len(axes)
        strides = tuple(axis.stride for axis in axes)
        found = _CONVOLVE[len(axes)](_laid_out(gradient), self.blocks, None, strides, inner)  # (N, I * B.., Q..)
        counts = [axis.blocks(size) for axis, size in zip(axes, sizes, strict=True)]
        apart = found.reshape(rows, channels, *(axis.block for axis in axes), *counts)  # (N, I, B.., Q..)
        rank = len(axes)
        order = [place for axis in range(rank) for place in (2 + rank + axis, 2 + axis)]
        together = apart.permute(0, 1, *order).reshape(rows, channels, *(q * axis.block for q, axis in zip(counts, axes, strict=True)))
        for axis, size in enumerate(sizes):
            together = together.narrow(2 + axis, 0, size)  # the last block may reach beyond the input
        return together


class _ByBlocks(torch.autograd.Function):
    """Keeps nothing of the pass forward: the gradient needs the weights alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, narrow: Narrow) -> Tensor:
        ctx.narrow, ctx.sizes = narrow, x.shape[2:]
        result: Tensor = narrow.convolution(x)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.narrow.input_gradient(gradients[0], ctx.sizes), None


def _axes(convolution: Convolution) -> tuple[_Axis, ...]:
    """Each axis with the smallest block, of the same number of strides in all, that makes enough channels."""
    steps = convolution.stride
    times = next(m for m in itertools.count(1) if convolution.in_channels * math.prod(step * m for step in steps) >= ENOUGH)
    padding = convolution.padding
    assert not isinstance(padding, str)  # is_narrow
    return tuple(_Axis(kernel, step, pad, step * times) for kernel, step, pad in zip(convolution.kernel_size, steps, padding, strict=True))


def _kernel(weight: Tensor, axes: Sequence[_Axis]) -> Tensor:
    """(I * B.., O, taps..): from weights (O, I, kernel..) those of the convolution that gives blocks."""
    found = weight
    for number, axis in enumerate(axes):
        taps = axis.taps()  # (B, taps)
        place = 2 + 2 * number  # before it the axes done, each as (B, taps)
        picked = found.index_select(place, taps.clamp(min=0).reshape(-1))
        found = picked.reshape(*picked.shape[:place], *taps.shape, *picked.shape[place + 1 :])
        there = (taps >= 0).to(found.dtype)
        found = found * there.reshape(*taps.shape, *(1,) * (found.dim() - place - 2))  # (O, I, B, taps, .., kernel..)
    rank = len(axes)
    order = (1, *(2 + 2 * a for a in range(rank)), 0, *(3 + 2 * a for a in range(rank)))
    return found.permute(order).flatten(0, rank).contiguous()


def _laid_out(x: Tensor) -> Tensor:
    layout = _LAST.get(x.dim() - 2)
    return x if layout is None else x.contiguous(memory_format=layout)

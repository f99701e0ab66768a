"""What is drawn on to excite a unit: a picture, a table's row or a latent vector, as free numbers that keep within its range.

Pictures by the amplitudes of their frequencies, scaled so that a picture changes at all sizes alike, and looked at through
random small moves (Olah, Mordvintsev, Schubert 2017, https://distill.pub/2017/feature-visualization).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

START = 0.3
"""Where a picture begins, as a part of the way from the baseline to what is farthest: at the range's end no gradient is left."""
SHIFT, TURN, ZOOM = 0.25, 15.0, 0.2
"""The largest random moves: a part of half the picture's side, degrees, a part of its size."""
REACH = 3.0
"""Standard deviations that a column without known bounds may go."""


class Canvas(Protocol):
    """`numbers` are what ascent changes."""

    numbers: Tensor

    def drawn(self) -> Tensor:
        """(1, ..) within the input's range."""

    def seen(self, drawn: Tensor, copies: int, generator: torch.Generator, /) -> Tensor:
        """(copies, ..) as the model is shown it."""

    def cost(self, drawn: Tensor, smoothness: float, sparseness: float, /) -> Tensor:
        """What speaks against it, a number."""


@dataclass(eq=False)
class Picture:
    """(1, C, H, W), or (1, H, W, C) where `channels_last`."""

    numbers: Tensor
    baseline: Tensor
    """(C, 1, 1), from 0 to 1 of the range."""
    low: float
    high: float
    size: tuple[int, int]
    channels_last: bool
    kind: Literal["fourier", "pixel"]

    @classmethod
    def of(
        cls,
        size: tuple[int, int, int],
        span: tuple[float, float],
        baseline: float,
        kind: Literal["fourier", "pixel"],
        generator: torch.Generator,
        *,
        channels_last: bool,
    ) -> Picture:
        """`size` is channels, height, width; `baseline` in the units of `span`."""
        channels, height, width = size
        shape = (channels, height, width // 2 + 1, 2) if kind == "fourier" else size
        numbers = (0.01 * torch.randn(1, *shape, generator=generator)).requires_grad_()
        low, high = span
        level = torch.full((channels, 1, 1), min(1.0, max(0.0, (baseline - low) / (high - low))))
        return cls(numbers, level, low, high, (height, width), channels_last, kind)

    def drawn(self) -> Tensor:
        values = self.low + (self.high - self.low) * self._unit()
        return values.permute(0, 2, 3, 1) if self.channels_last else values

    def seen(self, drawn: Tensor, copies: int, generator: torch.Generator) -> Tensor:
        picture = drawn.permute(0, 3, 1, 2) if self.channels_last else drawn
        ground = self.low + (self.high - self.low) * self.baseline
        moved = functional.grid_sample(
            (picture - ground).expand(copies, -1, -1, -1), self._moves(picture, copies, generator), align_corners=False
        )
        shown = moved + ground  # what comes in from outside is the baseline's colour
        return shown.permute(0, 2, 3, 1) if self.channels_last else shown

    def cost(self, drawn: Tensor, smoothness: float, sparseness: float) -> Tensor:
        picture = (drawn.permute(0, 3, 1, 2) if self.channels_last else drawn).sub(self.low) / (self.high - self.low)
        down, right = picture[..., 1:, :] - picture[..., :-1, :], picture[..., 1:] - picture[..., :-1]
        variation = (down.abs().mean() if down.numel() else 0) + (right.abs().mean() if right.numel() else 0)
        distance: Tensor = (picture - self.baseline).abs().mean()
        return smoothness * variation + sparseness * distance

    def _unit(self) -> Tensor:
        """(1, C, H, W) from 0 to 1."""
        values = self._from_frequencies() if self.kind == "fourier" else self.numbers
        start = self.baseline + START * torch.where(self.baseline < 0.5, 1 - self.baseline, -self.baseline)
        return torch.sigmoid(values + torch.logit(start))

    def _from_frequencies(self) -> Tensor:
        height, width = self.size
        rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
        amplitude = 1 / torch.sqrt(rows**2 + columns**2).clamp(min=1 / max(height, width))  # (H, W // 2 + 1)
        values: Tensor = torch.fft.irfft2(torch.view_as_complex(self.numbers) * amplitude, s=self.size, norm="ortho")
        return values

    def _moves(self, picture: Tensor, copies: int, generator: torch.Generator) -> Tensor:
        draws = torch.rand(4, copies, generator=generator) * 2 - 1
        angle, zoom, shift = draws[0] * math.radians(TURN), 1 + draws[1] * ZOOM, draws[2:] * SHIFT
        cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        matrices = torch.stack([torch.stack([cosine, -sine, shift[0]], 1), torch.stack([sine, cosine, shift[1]], 1)], 1)  # (copies, 2, 3)
        return functional.affine_grid(matrices, [copies, *picture.shape[1:]], align_corners=False)


@dataclass(eq=False)
class Row:
    """A table's row, within its columns' bounds; it begins at the middle of what is usual."""

    numbers: Tensor
    """(1, K): standard deviations from the mean, squeezed into the bounds."""
    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, mean: Sequence[float], std: Sequence[float], low: Sequence[float], high: Sequence[float]) -> Row:
        return cls(torch.zeros(1, len(mean)).requires_grad_(), *(torch.tensor(part) for part in (mean, std, low, high)))

    def drawn(self) -> Tensor:
        # Soft at first, so that no column's gradient ends at a bound before the ascent does; the clamp is for float noise.
        up, down = (self.high - self.mean).clamp(min=1e-6), (self.mean - self.low).clamp(min=1e-6)
        room = torch.where(self.numbers >= 0, up, down)
        return torch.clamp(self.mean + room * torch.tanh(self.numbers * self.std / room), self.low, self.high)

    def seen(self, drawn: Tensor, _copies: int, _generator: torch.Generator) -> Tensor:
        return drawn

    def cost(self, drawn: Tensor, _smoothness: float, sparseness: float) -> Tensor:
        return 0.01 * sparseness * ((drawn - self.mean) / self.std).abs().mean()


@dataclass(eq=False)
class Latent:
    """A vector whose elements are standard normal: one that isn't likely costs (its prior's log density)."""

    numbers: Tensor

    @classmethod
    def of(cls, shape: Sequence[int], generator: torch.Generator) -> Latent:
        return cls((0.1 * torch.randn(1, *shape, generator=generator)).requires_grad_())

    def drawn(self) -> Tensor:
        return self.numbers * 1.0

    def seen(self, drawn: Tensor, _copies: int, _generator: torch.Generator) -> Tensor:
        return drawn

    def cost(self, drawn: Tensor, _smoothness: float, sparseness: float) -> Tensor:
        return 0.05 * sparseness * drawn.square().mean()

"""Random small distortions of training images, drawn for a whole batch at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample


@dataclass(frozen=True)
class RandomAffine:
    """Turns, shifts, scales, stretches and shears each image by its own uniform draw; what comes in from outside is 0 (black)."""

    degrees: float
    shift: float
    """In pixels, each way."""
    scale: float
    """Natural logarithm of the largest zoom."""
    stretch: float
    """Natural logarithm of the largest change of height against width."""
    shear: float

    def __call__(self, images: Tensor) -> Tensor:
        """Distorted copies of `images`, float32 (N, C, H, W)."""
        batch, _, height, width = images.shape
        draw = (torch.rand(6, batch, device=images.device) * 2 - 1).unbind(0)  # six of (N,), in [-1, 1]
        angle = draw[0] * math.radians(self.degrees)
        zoom, stretch = torch.exp(draw[1] * self.scale), torch.exp(draw[2] * self.stretch)
        cosine, sine = angle.cos() * zoom, angle.sin() * zoom
        across = torch.stack([cosine * stretch, draw[3] * self.shear - sine, draw[4] * 2 * self.shift / width], dim=1)  # (N, 3)
        down = torch.stack([sine, cosine / stretch, draw[5] * 2 * self.shift / height], dim=1)  # (N, 3)
        grid = affine_grid(torch.stack([across, down], dim=1), list(images.shape), align_corners=False)  # (N, H, W, 2)
        return grid_sample(images, grid, align_corners=False)

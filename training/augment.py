"""Random small distortions of training images and sounds, drawn for a whole batch at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad


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


@dataclass(frozen=True)
class RandomSound:
    """Plays each sound a little faster or slower, somewhere in its frame, louder or softer, over faint white noise."""

    speed: float
    """Natural logarithm of the largest change; pitch changes with it, as on a tape."""
    gain: float
    """Decibels, each way."""
    noise: float
    """Standard deviation at most, of samples -1 to 1."""

    def __call__(self, sounds: Tensor) -> Tensor:
        """Distorted copies of `sounds`, float32 (N, samples), each padded with zeros behind its end."""
        batch, frame = sounds.shape
        draw = torch.rand(4, batch, 1, device=sounds.device).unbind(0)  # four of (N, 1), in [0, 1)
        speed = torch.exp((2 * draw[0] - 1) * self.speed)
        time = torch.arange(frame, device=sounds.device)
        length = torch.where(sounds != 0, time + 1, 0).amax(1, keepdim=True)  # (N, 1)
        start = draw[1] * (frame - length / speed).clamp(min=0)
        position = ((time - start) * speed).clamp(-1, frame)  # (N, samples), in the sound as it was
        padded = pad(sounds, (1, 2))  # silence before and behind
        left = position.floor()
        share = position - left
        at = left.long() + 1
        played = padded.gather(1, at) * (1 - share) + padded.gather(1, at + 1) * share  # linear interpolation
        loudness = 10 ** ((2 * draw[2] - 1) * self.gain / 20)
        return played * loudness + torch.randn_like(sounds) * draw[3] * self.noise

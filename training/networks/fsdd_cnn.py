"""A small convolutional network for spoken digits; its spectrogram is part of the graph, so attributions reach the samples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d

RATE = 8000
"""Samples a second."""
SAMPLES = RATE
"""One second."""
WINDOW = 200
"""Samples of a frame, 25 ms."""
HOP = 80
"""Samples from frame to frame, 10 ms."""
BANDS = 40
_LOUDNESS = 1e6
"""Powers far below 1 / this are silence to the network, about 60 dB under a full-scale tone."""


class FsddCnn(nn.Module):
    """Logits of the ten digits from one second of sound, samples -1 to 1 at 8 kHz, padded with silence.

    Log-mel spectrogram (25 ms Hann windows every 10 ms, 40 bands) by a convolution with fixed Fourier kernels, then four
    strided convolutions, each batch-normalised. Silence is exactly 0 in every band: log(1 + power), not log(power).
    """

    fourier: Tensor
    bands: Tensor

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.register_buffer("fourier", torch.from_numpy(fourier_kernels(WINDOW)), persistent=False)  # (2 * 101, 1, 200)
        self.register_buffer("bands", torch.from_numpy(mel_bands(BANDS, WINDOW, RATE)), persistent=False)  # (40, 101)
        self.conv1 = nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(32)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(32, 48, 3, stride=2, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(48)
        self.relu3 = nn.ReLU()
        self.conv4 = nn.Conv2d(48, 64, (5, 3), padding=(0, 1), bias=False)
        self.norm4 = nn.BatchNorm2d(64)
        self.relu4 = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.classes = nn.Linear(64, 10)

    def spectrogram(self, sound: Tensor) -> Tensor:
        """Log-mel spectrogram, float32 (N, 40, 98), of `sound` float32 (N, 8000)."""
        waves = conv1d(sound.unsqueeze(1), self.fourier, stride=HOP)  # (N, 2 * 101, 98), cosine parts then sine parts
        parts = waves * waves
        power = parts[:, : WINDOW // 2 + 1] + parts[:, WINDOW // 2 + 1 :]  # (N, 101, 98)
        return torch.log(1 + _LOUDNESS * torch.matmul(self.bands, power))

    def forward(self, sound: Tensor) -> Tensor:
        """Logits, float32 (N, 10), of `sound` float32 (N, 8000)."""
        x = self.spectrogram(sound).unsqueeze(1)  # (N, 1, 40, 98)
        x = self.relu1(self.norm1(self.conv1(x)))  # (N, 16, 20, 49)
        x = self.relu2(self.norm2(self.conv2(x)))  # (N, 32, 10, 25)
        x = self.relu3(self.norm3(self.conv3(x)))  # (N, 48, 5, 13)
        x = self.relu4(self.norm4(self.conv4(x)))  # (N, 64, 1, 13)
        logits: Tensor = self.classes(self.dropout(x.mean((2, 3))))
        return logits


def fourier_kernels(window: int) -> npt.NDArray[np.float32]:
    """Cosine kernels of all frequencies, then sine kernels, (2 * (window // 2 + 1), 1, window), under a Hann window.

    Scaled so that a full-scale sine in the middle of a frequency's bin has power (cosine part² + sine part²) 1.
    """
    time, frequency = np.arange(window), np.arange(window // 2 + 1)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * time / window)
    angle = 2 * np.pi * frequency[:, None] * time / window
    kernels = np.concatenate([np.cos(angle), np.sin(angle)]) * hann * (2 / hann.sum())
    return np.asarray(kernels[:, None], np.float32)


def mel_bands(bands: int, window: int, rate: int) -> npt.NDArray[np.float32]:
    """Triangular filters (bands, window // 2 + 1), evenly spaced on the mel scale (2595 log10(1 + Hz / 700)) from 60 Hz to half
    the rate, each with weights that sum to 1."""
    frequency = np.fft.rfftfreq(window, 1 / rate)
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (60.0, rate / 2))
    corners = 700 * (10 ** (np.linspace(low, high, bands + 2) / 2595) - 1)  # Hz
    left, middle, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    # At least one bin wide, else the lowest bands would fall between two frequencies of the transform.
    rising = (frequency - left) / np.maximum(middle - left, rate / window)
    falling = (right - frequency) / np.maximum(right - middle, rate / window)
    weights = np.clip(np.minimum(rising, falling), 0, None)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)

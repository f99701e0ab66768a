"""A conditional DCGAN for 28x28 digits: a generator and a discriminator that each know which digit is asked for.

After DCGAN (Radford et al. 2016, arXiv:1511.06434) with a projection discriminator (Miyato & Koyama 2018, arXiv:1802.05637).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

LATENT = 64
CLASSES = 10
SLOPE = 0.2
"""Of the discriminator's leaky ReLUs."""


class OneHot(nn.Module):
    """Classes int64 (N,) to float32 (N, 10).

    A table look-up, so that the graph has a float tensor of the class, where an attribution can be taken, and so that a
    class that doesn't exist is an error of the runtime and not a row of zeros.
    """

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.eye(CLASSES), persistent=False)

    def forward(self, label: Tensor) -> Tensor:
        return embedding(label, self.table)


class Generator(nn.Module):
    """Digits, pixels 0 to 255, light ink on black, from a standard normal latent and the class asked for.

    The only layer that normalises over the batch is BatchNorm, which in eval mode uses its running statistics: a digit
    is the same alone and among others.
    """

    def __init__(self, channels: int = 48, hidden: int = 256) -> None:
        super().__init__()
        self.channels = channels
        self.onehot = OneHot()
        self.hidden = nn.Linear(LATENT + CLASSES, hidden, bias=False)
        self.norm1 = nn.BatchNorm1d(hidden)
        self.relu1 = nn.ReLU()
        self.project = nn.Linear(hidden, channels * 7 * 7, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.up1 = nn.ConvTranspose2d(channels, channels // 2, 4, stride=2, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(channels // 2)
        self.relu3 = nn.ReLU()
        self.up2 = nn.ConvTranspose2d(channels // 2, 1, 4, stride=2, padding=1)
        self.tanh = nn.Tanh()

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        """Images, float32 (N, 1, 28, 28), of `latent` float32 (N, 64) and `label` int64 (N,)."""
        x = torch.cat([latent, self.onehot(label)], dim=1)  # (N, 74)
        x = self.relu1(self.norm1(self.hidden(x)))  # (N, hidden)
        x = self.project(x).reshape(-1, self.channels, 7, 7)
        x = self.relu2(self.norm2(x))  # (N, C, 7, 7)
        x = self.relu3(self.norm3(self.up1(x)))  # (N, C/2, 14, 14)
        image: Tensor = self.tanh(self.up2(x))  # (N, 1, 28, 28), in [-1, 1]
        return (image + 1.0) * 127.5


class Discriminator(nn.Module):
    """One logit: above zero, `image` looks like a real digit of the class `label`; below, like a generated one.

    logit = w.h + v[label].h + b for the features h of the image: how real it looks, and how much like the class. No
    layer normalises over the batch.
    """

    def __init__(self, channels: int = 24, hidden: int = 128) -> None:
        super().__init__()
        self.onehot = OneHot()
        self.conv1 = nn.Conv2d(1, channels, 4, stride=2, padding=1)
        self.relu1 = nn.LeakyReLU(SLOPE)
        self.conv2 = nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1)
        self.relu2 = nn.LeakyReLU(SLOPE)
        self.conv3 = nn.Conv2d(2 * channels, 4 * channels, 3, stride=2, padding=1)
        self.relu3 = nn.LeakyReLU(SLOPE)
        self.hidden = nn.Linear(4 * channels * 4 * 4, hidden)
        self.relu4 = nn.LeakyReLU(SLOPE)
        self.real = nn.Linear(hidden, 1)
        self.directions = nn.Linear(CLASSES, hidden, bias=False)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        """Logits, float32 (N, 1), of `image` float32 (N, 1, 28, 28), pixels 0 to 255, and `label` int64 (N,)."""
        x = image / 127.5 - 1.0
        x = self.relu1(self.conv1(x))  # (N, C, 14, 14)
        x = self.relu2(self.conv2(x))  # (N, 2C, 7, 7)
        x = self.relu3(self.conv3(x))  # (N, 4C, 4, 4)
        x = self.relu4(self.hidden(x.flatten(1)))  # (N, hidden)
        match = (x * self.directions(self.onehot(label))).sum(dim=1, keepdim=True)  # (N, 1)
        logits: Tensor = self.real(x) + match
        return logits

"""Small seeded networks of seven kinds, as torch modules that Captum explains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from captum.attr._utils.custom_modules import Addition_Module
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class Cnn(nn.Module):
    apart = False
    """Whether ReLU and pooling have tensors of their own between them. Where the two share one, Captum (0.9) takes the gradient
    behind the ReLU before the pooling's rule has changed it, and its DeepLIFT isn't complete."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu1, self.pool = nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        self.conv2, self.relu2, self.mean = nn.Conv2d(6, 8, 3), nn.ReLU(), nn.AvgPool2d(2)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.conv1(x))
        x = self.pool(x.clone() if self.apart else x)  # (N, 6, 6, 6)
        return self.head(self.mean(self.relu2(self.conv2(x))).flatten(1))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.relu, self.b, self.tanh, self.c = nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.tanh(self.b(self.relu(self.a(x)))))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.GRU] | type[nn.LSTM]) -> None:
        super().__init__()
        self.cells = kind(4, 12, batch_first=True, bidirectional=True)
        self.relu, self.head = nn.ReLU(), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.cells(x)  # (N, T, 24)
        return self.head(self.relu(y[:, -1]))  # type: ignore[no-any-return]


def through(convolution: nn.Module, norm: nn.Module | None, x: Tensor) -> Tensor:
    """A convolution and its normalisation, where that isn't folded into it."""
    y = convolution(x)
    return y if norm is None else norm(y)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Convolutions with BatchNorm around which the input is added; the sum as Captum's LRP wants it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.norm1, self.relu1 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()
        self.conv2, self.norm2, self.relu2 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()
        self.add = Addition_Module()

    def forward(self, x: Tensor) -> Tensor:
        y = through(self.conv2, self.norm2, self.relu1(through(self.conv1, self.norm1, x)))
        return self.relu2(self.add(y, x))  # type: ignore[no-any-return]

    def folded(self) -> Block:
        """As the exporter folds it."""
        self.conv1, self.norm1 = fuse_conv_bn_eval(self.conv1, self.norm1), None  # type: ignore[assignment]
        self.conv2, self.norm2 = fuse_conv_bn_eval(self.conv2, self.norm2), None  # type: ignore[assignment]
        return self


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.relu = nn.Conv2d(1, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU()
        self.one, self.two = Block(6), Block(6)
        self.pool, self.head = nn.AvgPool2d(6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(through(self.stem, self.norm, x))  # (N, 6, 6, 6)
        return self.head(self.pool(self.two(self.one(x))).flatten(1))  # type: ignore[no-any-return]

    def folded(self) -> Residual:
        self.stem, self.norm = fuse_conv_bn_eval(self.stem, self.norm), None  # type: ignore[assignment]
        self.one.folded()
        self.two.folded()
        return self.eval()


class Generator(nn.Module):
    """A DCGAN's: a picture (1, 12, 12) of a latent vector."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm_a, self.relu_a = nn.ConvTranspose2d(8, 12, 3), nn.BatchNorm2d(12), nn.ReLU()
        self.b, self.norm_b, self.relu_b = nn.ConvTranspose2d(12, 6, 4, 2, 1), nn.BatchNorm2d(6), nn.ReLU()
        self.c, self.tanh = nn.ConvTranspose2d(6, 1, 4, 2, 1), nn.Tanh()

    def forward(self, z: Tensor) -> Tensor:
        x = self.relu_a(through(self.a, self.norm_a, z.reshape(-1, 8, 1, 1)))  # (N, 12, 3, 3)
        return self.tanh(self.c(self.relu_b(through(self.b, self.norm_b, x))))  # type: ignore[no-any-return]

    def folded(self) -> Generator:
        self.a, self.norm_a = fuse_conv_bn_eval(self.a, self.norm_a, transpose=True), None  # type: ignore[assignment]
        self.b, self.norm_b = fuse_conv_bn_eval(self.b, self.norm_b, transpose=True), None  # type: ignore[assignment]
        return self.eval()


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(4, 16), nn.Linear(16, 5)
        self.query, self.key, self.value, self.out = (nn.Linear(16, 16) for _ in range(4))
        self.softmax = nn.Softmax(-1)
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.up, self.relu, self.down = nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)  # (N, T, 16)
        q, k, v = (part(x).unflatten(-1, (2, 8)).transpose(1, 2) for part in (self.query, self.key, self.value))  # (N, 2, T, 8)
        weights = self.softmax(q @ k.transpose(-1, -2) / 8**0.5)
        x = self.norm1(x + self.out((weights @ v).transpose(1, 2).flatten(2)))
        x = self.norm2(x + self.down(self.relu(self.up(x))))
        return self.head(x.mean(1))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Network:
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    target: int | tuple[int, ...] = 2
    layer: str = ""
    """The last convolution, of the module."""


NETWORKS = {
    "CNN": Network(Cnn, (1, 12, 12), layer="conv2"),
    "MLP": Network(Mlp, (12,)),
    "GRU": Network(lambda: Recurrent(nn.GRU), (9, 4)),
    "LSTM": Network(lambda: Recurrent(nn.LSTM), (9, 4)),
    "residual": Network(Residual, (1, 12, 12), layer="two.conv2"),
    "generator": Network(Generator, (8,), (0, 5, 6)),
    "transformer": Network(Transformer, (6, 4)),
}


def made(network: Network, seed: int = 0) -> nn.Module:
    """With weights by the seed, and normalisations that have seen data."""
    torch.manual_seed(seed)
    module = network.make()
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.uniform_(-0.3, 0.3)  # type: ignore[union-attr]  # it has one
                part.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
                part.weight.uniform_(0.5, 1.5)
                part.bias.uniform_(-0.3, 0.3)
    return module.eval()

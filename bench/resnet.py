"""A network like ResNet-18 (He, Zhang, Ren, Sun 2016, https://arxiv.org/abs/1512.03385): what the benchmarks measure large models with.

11.7 million weights, 1,000 classes, 3 x 224 x 224. The convolutions are drawn by a seed, the normalisations hold the statistics of
what flows through them, and the head is fitted to tell pictures by their grain: random features with a trained head, so that the
output moves between a baseline and a picture as a classifier's does. What it predicts means nothing else.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from service.manifest import MODEL_FILE, Batching, Explain, Input, Manifest, Output, sha256_of
from training.export import Graph, to_onnx
from training.reference import REFERENCE_FILE, packed

NAME = "resnet18-like"
SIZE, CLASSES, KINDS = 224, 1000, 10
_TYPICAL = 4
"""Pictures of the bundle's reference set."""
_STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
"""Channels, and the stride of the first block."""


class Block(nn.Module):
    """Two 3x3 convolutions beside an identity, or beside a 1x1 convolution where the shape changes."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        changed = nn.Sequential(nn.Conv2d(before, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
        self.beside = nn.Identity() if stride == 1 and before == channels else changed
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(y + self.beside(x))  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """Normalised pictures (N, 3, 224, 224) float32 to scores (N, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        blocks, before = [], 64
        for channels, stride in _STAGES:
            blocks += [Block(before, channels, stride), Block(channels, channels, 1)]
            before = channels
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(before, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.blocks(self.stem(x))).flatten(1))  # type: ignore[no-any-return]


def pictures(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Coloured noise whose power falls with frequency as a photograph's does, normalised: (count, 3, 224, 224).

    Picture i is of kind i modulo 10: from grainy to smooth.
    """
    numbers = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None])  # (224, 113)
    frequency[0, 0] = frequency[0, 1]
    drawn = []
    for i in range(count):
        white = np.fft.rfft2(numbers.normal(size=(3, SIZE, SIZE)))
        coloured = np.fft.irfft2(white / frequency ** (0.6 + 0.1 * (i % KINDS)), (SIZE, SIZE))
        drawn.append(coloured / coloured.std())
    return np.stack(drawn).astype(np.float32)


@functools.cache
def network() -> ResNet:
    """The network in evaluation mode, the same for everybody."""
    torch.manual_seed(0)
    net = ResNet()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over what follows
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    with torch.no_grad():
        net.train()(torch.from_numpy(pictures(2 * KINDS, seed=1)))
        _fit_head(net.eval())
    return net.requires_grad_(False)


def _fit_head(net: ResNet) -> None:
    """Ridge regression of ten times the kind's indicator on the features; the scores of the other 990 classes stay random."""
    shown = [torch.from_numpy(pictures(2 * KINDS, seed)) for seed in range(2, 8)]
    features = torch.cat([net.pool(net.blocks(net.stem(x))).flatten(1) for x in shown]).double()  # (120, 512)
    wanted = 10 * torch.eye(KINDS, dtype=torch.float64).repeat(len(features) // KINDS, 1)  # (120, 10)
    mean = features.mean(0)
    centred = features - mean
    gram = centred.T @ centred
    weights = torch.linalg.solve(gram + gram.trace() / len(gram) * torch.eye(len(gram)), centred.T @ wanted)  # (512, 10)
    net.head.weight[:KINDS] = weights.T.float()
    net.head.bias[:KINDS] = (wanted.mean(0) - mean @ weights).float()


def write_bundle(models: Path) -> Path:
    """Writes the network as a bundle into a repository, whose folder is returned."""
    folder = models / NAME / "1"
    folder.mkdir(parents=True, exist_ok=True)
    axes = {"image": {0: "batch"}}
    graph = Graph(network(), axes, ("logits",), lambda sizes: (torch.from_numpy(pictures(sizes["batch"])),))
    file = folder / MODEL_FILE
    onnx.save_model(to_onnx(graph), file)
    (folder / REFERENCE_FILE).write_bytes(packed({"image": pictures(_TYPICAL, seed=8)}))
    manifest = Manifest(
        name=NAME,
        version=1,
        task="classification",
        inputs=(Input(name="image", codec="tensor", dtype="float32", shape=(3, SIZE, SIZE)),),
        outputs=(Output(name="logits", kind="classes", dtype="float32", shape=(CLASSES,), activation="softmax"),),
        explain=Explain(output="logit", method="integrated_gradients", reference=REFERENCE_FILE),
        batching=Batching(max=32, rows_independent=True),
        files={name: sha256_of(folder / name) for name in (MODEL_FILE, REFERENCE_FILE)},
    )
    manifest.write(folder)
    return folder

"""A small convolutional network for 28x28 digits, drawn so that one image costs under a million multiply-adds."""

from __future__ import annotations

from torch import Tensor, nn

FEATURES = 64


class MnistCnn(nn.Module):
    """Logits of the ten digits from grey pixels 0 to 255, light ink on black.

    Batch-normalised convolutions (Ioffe & Szegedy 2015, arXiv:1502.03167); strides instead of pooling, since a strided
    convolution computes a quarter of the outputs. BatchNorm folds into the convolutions at inference.
    """

    def __init__(self, dropout: float = 0.25) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 5, stride=2, padding=2, bias=False)
        self.norm1 = nn.BatchNorm2d(12)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(12, 16, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(16)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(32)
        self.relu3 = nn.ReLU()
        self.conv4 = nn.Conv2d(32, 32, 3, bias=False)
        self.norm4 = nn.BatchNorm2d(32)
        self.relu4 = nn.ReLU()
        self.conv5 = nn.Conv2d(32, 44, 3, bias=False)
        self.norm5 = nn.BatchNorm2d(44)
        self.relu5 = nn.ReLU()
        self.hidden = nn.Linear(44 * 3 * 3, FEATURES, bias=False)
        self.norm6 = nn.BatchNorm1d(FEATURES)
        self.relu6 = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.classes = nn.Linear(FEATURES, 10)

    def features(self, image: Tensor) -> Tensor:
        """Penultimate features, float32 (N, 64), of `image` float32 (N, 1, 28, 28), pixels 0 to 255."""
        x = image * (1 / 255)  # black stays 0, as in the padding of the convolutions
        x = self.relu1(self.norm1(self.conv1(x)))  # (N, 12, 14, 14)
        x = self.relu2(self.norm2(self.conv2(x)))  # (N, 16, 14, 14)
        x = self.relu3(self.norm3(self.conv3(x)))  # (N, 32, 7, 7)
        x = self.relu4(self.norm4(self.conv4(x)))  # (N, 32, 5, 5)
        x = self.relu5(self.norm5(self.conv5(x)))  # (N, 44, 3, 3)
        features: Tensor = self.relu6(self.norm6(self.hidden(x.flatten(1))))  # (N, 64)
        return features

    def forward(self, image: Tensor) -> Tensor:
        """Logits, float32 (N, 10)."""
        logits: Tensor = self.classes(self.dropout(self.features(image)))
        return logits

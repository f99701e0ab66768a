"""What the benchmarks send: the committed bundles' own golden requests, and whole test sets where WHYSERVE_DATA has them."""

from __future__ import annotations

import base64
from pathlib import Path

from service.manifest import Golden, GoldenCase


def golden_case(model: str, content_type: str) -> GoldenCase:
    """A golden request of a bundle with that media type. Raises LookupError."""
    golden = Golden.read(Path("models") / model / "1")
    for case in golden.cases:
        if case.content_type.startswith(content_type):
            return case
    raise LookupError(f"{model} has no golden request of type {content_type}")


def digit_png() -> bytes:
    """A test digit of MNIST, 28 x 28."""
    return base64.b64decode(golden_case("mnist-cnn", "image/png").body_b64)


def digits(count: int) -> list[bytes]:
    """The first test digits of MNIST as PNG. Needs the dataset."""
    from service.codecs.image import encode_png
    from training.datasets import load_mnist

    return [encode_png(picture) for picture in load_mnist().test.pixels[:count]]


def sentences(count: int) -> list[bytes]:
    """The first test sentences of SST-2, as the dataset has them. Needs the dataset."""
    from training.datasets import load_sst2

    return [sentence.encode() for sentence in load_sst2().test.texts[:count]]

"""What the benchmarks send: the committed bundles' own golden requests, and whole test sets where WHYSERVE_DATA has them."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.benching.load import http_request
from service.codecs.v2 import InferRequest, encode_request
from service.explain.reference_file import read
from service.manifest import Golden, GoldenCase, Manifest

_COMMITTED_DIGITS = Path("tests/data/mnist_1000.npz")
_HEADER_LENGTH = "Inference-Header-Content-Length"


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


def pixels(count: int) -> NDArray[np.float32]:
    """Test digits of MNIST (count, 1, 28, 28), 0 to 255: the first ones of the dataset where WHYSERVE_DATA has it, else committed ones."""
    if os.environ.get("WHYSERVE_DATA"):
        from training.datasets import load_mnist

        found = load_mnist().test.pixels
    else:
        with np.load(_COMMITTED_DIGITS) as file:
            found = file["test_pixels"]
    return found[:count].reshape(-1, 1, 28, 28).astype(np.float32)


def rows(model: str, count: int) -> list[dict[str, NDArray[Any]]]:
    """`count` graph inputs (1, ..) of a bundle: digits for mnist-cnn, else its committed reference set over and over."""
    if model == "mnist-cnn":
        sets: dict[str, NDArray[Any]] = {"image": pixels(count)}
    else:
        folder = Path("models") / model / "1"
        sets = read(folder, Manifest.read(folder))
    length = len(next(iter(sets.values())))
    return [{name: values[i % length][None] for name, values in sets.items()} for i in range(count)]


def explain_request(model: str, feeds: dict[str, NDArray[Any]], parameters: dict[str, Any] | None = None) -> bytes:
    """The bytes of an HTTP request for V2 `explain` with binary tensors."""
    body, headers = explain_body(feeds, parameters)
    return http_request(explain_path(model), body, headers.pop("content-type"), headers)


def explain_path(model: str) -> str:
    return f"/v2/models/{model}/explain"


def explain_body(feeds: dict[str, NDArray[Any]], parameters: dict[str, Any] | None = None) -> tuple[bytes, dict[str, str]]:
    """Body and headers of V2 `explain` with binary tensors."""
    body, length = encode_request(InferRequest(feeds, parameters=parameters or {}, binary_default=True))
    return body, {"content-type": "application/octet-stream", _HEADER_LENGTH: str(length)}

"""Real digits and photos from the dataset folder through the image codec, against Pillow's own steps written out."""

from __future__ import annotations

import gzip
import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from service.codecs.geometry import adjoint, upsample
from service.codecs.image import decode_image, encode_png
from service.codecs.picture import ImageLimits, as_seen
from service.explain.render.image import render_overlay
from service.manifest import ImagePolicy

DATA = Path(os.environ.get("WHYSERVE_DATA", "/nonexistent"))
pytestmark = pytest.mark.skipif(not (DATA / "photos").is_dir(), reason="needs WHYSERVE_DATA with photos and mnist")
PHOTOS = sorted(path.name for path in (DATA / "photos").glob("*.[jp][pn]g"))[:8]
LIMITS = ImageLimits()


def by_pillow(sent, fit):
    size, filtering = (224, 224), Image.Resampling.BILINEAR
    if fit == "stretch":
        return sent.resize(size, filtering)
    if fit == "crop":
        return ImageOps.fit(sent, size, filtering)
    part = ImageOps.contain(sent, size, filtering)
    frame = Image.new("RGB", size)
    frame.paste(part, ((224 - part.width) // 2, (224 - part.height) // 2))
    return frame


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("fit", ["stretch", "contain", "crop"])
def test_photos(name, fit):
    data = (DATA / "photos" / name).read_bytes()
    policy = ImagePolicy(width=224, height=224, channels=3, fit=fit, filter="bilinear")
    decoded = decode_image(data, policy, "float32", LIMITS)
    with Image.open(BytesIO(data)) as opened:
        sent = ImageOps.exif_transpose(opened).convert("RGB")
    expected = np.asarray(by_pillow(sent, fit), float)
    difference = np.abs(decoded.tensor.transpose(1, 2, 0) - expected)
    assert difference.mean() < (3 if decoded.geometry.reduced > 1 else 0.1)  # a JPEG decoded smaller is smoothed once more
    assert decoded.geometry.upright == sent.size

    attributions = np.random.default_rng(0).normal(size=(224, 224, 3))
    if sent.width * sent.height < 1_000_000:
        (x, y), (width, height) = decoded.geometry.offset, decoded.geometry.resized
        filled = attributions[y : y + height, x : x + width].sum()  # the margins have no place in the sent picture
        assert adjoint(attributions, decoded.geometry).sum() == pytest.approx(filled, abs=1e-6)
    assert upsample(attributions[..., 0], decoded.geometry).shape == (sent.height, sent.width)
    assert render_overlay(as_seen(data, policy, LIMITS), attributions, decoded.geometry).size == sent.size


def test_digits():
    with gzip.open(DATA / "mnist" / "t10k-images-idx3-ubyte.gz") as file:
        digits = np.frombuffer(file.read(16 + 100 * 784)[16:], np.uint8).reshape(-1, 28, 28)
    for digit in digits:
        for sent in (digit, 255 - digit):  # as in the data set, and as written on paper
            decoded = decode_image(encode_png(sent), ImagePolicy(width=28, height=28, channels=1, polarity="auto"), "float32", LIMITS)
            np.testing.assert_array_equal(decoded.tensor[0], digit)

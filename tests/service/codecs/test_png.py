"""The fast reader gives what Pillow gives, and leaves to Pillow whatever isn't plain pixels."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from service.codecs.png import read_plain_png


def saved(pixels: np.ndarray, **options) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(28, 28), (1, 1), (3, 7), (224, 224, 3), (5, 300, 3)])
@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"compress_level": 0}])
def test_the_pixels_are_pillows(shape: tuple[int, ...], options):
    pixels = noise(*shape)
    read = read_plain_png(saved(pixels, **options), shape[1], shape[0], 3 if len(shape) == 3 else 1)
    assert read is not None
    assert np.array_equal(read, pixels)


def test_several_chunks_of_pixels_are_read():
    data = saved(noise(64, 64), compress_level=0)
    start = data.index(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", data, start)
    content = data[start + 8 : start + 8 + length]

    def chunk(part: bytes) -> bytes:
        return struct.pack(">I", len(part)) + b"IDAT" + part + struct.pack(">I", zlib.crc32(b"IDAT" + part))

    split = data[:start] + chunk(content[:100]) + chunk(content[100:]) + data[start + 12 + length :]
    read = read_plain_png(split, 64, 64, 1)
    assert read is not None
    assert np.array_equal(read, noise(64, 64))


def with_text() -> bytes:
    info = PngInfo()
    info.add_text("Comment", "hello")
    return saved(noise(8, 8), pnginfo=info)


@pytest.mark.parametrize(
    ("data", "channels"),
    [
        (saved(noise(8, 8, 3)), 1),
        (saved(noise(8, 8)), 3),
        (saved(noise(8, 9)), 1),
        (saved(noise(8, 8, 4)), 3),
        (saved(noise(8, 8).astype(np.uint16) * 257), 1),
        (saved(noise(8, 8), transparency=3), 1),
        (with_text(), 1),
        (saved(noise(8, 8)) + b"more", 1),
        (saved(noise(8, 8))[:-5], 1),
        (saved(noise(8, 8))[:40], 1),
        (b"\x89PNG\r\n\x1a\n", 1),
        (b"", 1),
    ],
    ids=["rgb", "grey", "size", "alpha", "16-bit", "transparent", "text", "trailing", "truncated", "header", "signature", "empty"],
)
def test_everything_else_is_left_to_pillow(data: bytes, channels: int):
    assert read_plain_png(data, 8, 8, channels) is None


def test_a_flipped_byte_anywhere_is_left_to_pillow():
    whole = saved(noise(8, 8))
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 0xFF
        assert read_plain_png(bytes(data), 8, 8, 1) is None, place

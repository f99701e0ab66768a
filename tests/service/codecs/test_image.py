"""Encoded pictures to tensors. Expected pixels come from Pillow's own calls and from files written byte by byte."""

from __future__ import annotations

import struct
import time
import zlib
from io import BytesIO

import numpy as np
import psutil
import pytest
from PIL import Image, ImageOps

from service.codecs.image import decode_image, encode_image_output, encode_png, grid, peek_pixels
from service.codecs.picture import ImageLimits, as_seen
from service.errors import BadInput, ModelFailed, TooLarge, WhyserveError
from service.manifest import ImagePolicy, Output

LIMITS = ImageLimits()
rng = np.random.default_rng(0)


def policy(size=(28, 28), channels=1, **changes):
    return ImagePolicy(width=size[0], height=size[1], channels=channels, **changes)


def encoded(picture, kind="PNG", **options):
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def smooth(width, height, channels=3):
    """A picture without fine detail, so that JPEG and resizing change little."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [128 + 100 * np.sin(x / width * 3 + k) * np.cos(y / height * 2 - k) for k in range(channels)]
    return np.stack(planes, axis=2).round().astype(np.uint8)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bytes(width, height, depth, colour, rows, extra=b""):
    """A PNG written after the specification, for kinds that Pillow can't write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def webp_bomb():
    """A lossless WebP whose header says 16384 x 16384: 14 bits each, behind the signature byte at 20."""
    data = bytearray(encoded(Image.new("RGB", (16, 16)), "WEBP", lossless=True))
    assert data[12:16] == b"VP8L"
    struct.pack_into("<I", data, 21, struct.unpack_from("<I", data, 21)[0] | 0x0FFFFFFF)
    return bytes(data)


@pytest.mark.parametrize("dtype", ["float32", "uint8", "float16", "int64"])
def test_a_grey_png_of_the_models_size_is_taken_as_it_is(dtype):
    pixels = rng.integers(0, 256, (28, 28)).astype(np.uint8)
    decoded = decode_image(encoded(pixels), policy(), dtype, LIMITS)
    assert decoded.tensor.dtype == dtype
    assert decoded.tensor.shape == (1, 28, 28)
    assert decoded.tensor.flags.c_contiguous
    np.testing.assert_array_equal(decoded.tensor[0], pixels)
    assert decoded.geometry.sent == decoded.geometry.resized == decoded.geometry.frame == (28, 28)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_every_format_and_layout(kind, layout):
    pixels = smooth(40, 30)
    data = encoded(Image.fromarray(pixels), kind, **({"quality": 95} if kind in ("JPEG", "WEBP") else {}))
    decoded = decode_image(data, policy((20, 15), 3, layout=layout), "float32", LIMITS)
    got = decoded.tensor if layout == "NHWC" else decoded.tensor.transpose(1, 2, 0)
    assert got.shape == (15, 20, 3)
    assert decoded.tensor.flags.c_contiguous
    expected = np.asarray(Image.fromarray(pixels).resize((20, 15), Image.Resampling.BILINEAR), float)
    assert np.abs(got - expected).mean() < (12 if kind == "GIF" else 2)  # GIF has 256 colours
    assert peek_pixels(data, LIMITS) == 1200


@pytest.mark.parametrize("name", ["nearest", "box", "bilinear", "bicubic", "lanczos"])
def test_stretch_is_pillows_resize(name):
    pixels = rng.integers(0, 256, (37, 51, 3)).astype(np.uint8)
    decoded = decode_image(encoded(pixels), policy((24, 20), 3, filter=name), "uint8", LIMITS)
    expected = Image.fromarray(pixels).resize((24, 20), Image.Resampling[name.upper()])
    np.testing.assert_array_equal(decoded.tensor.transpose(1, 2, 0), np.asarray(expected))


def test_contain_centres_on_the_background():
    pixels = rng.integers(0, 256, (10, 40, 3)).astype(np.uint8)
    decoded = decode_image(encoded(pixels), policy((20, 21), 3, fit="contain", background=(1, 2, 3)), "uint8", LIMITS)
    expected = Image.new("RGB", (20, 21), (1, 2, 3))
    expected.paste(Image.fromarray(pixels).resize((20, 5), Image.Resampling.BILINEAR), (0, 8))
    np.testing.assert_array_equal(decoded.tensor.transpose(1, 2, 0), np.asarray(expected))
    assert (decoded.geometry.offset, decoded.geometry.resized) == ((0, 8), (20, 5))


def test_contain_fills_grey_margins_with_the_backgrounds_luma():
    decoded = decode_image(
        encoded(np.zeros((10, 40), np.uint8)), policy((20, 20), 1, fit="contain", background=(255, 0, 0)), "uint8", LIMITS
    )
    assert decoded.tensor[0, 0, 0] == np.asarray(Image.new("RGB", (1, 1), (255, 0, 0)).convert("L"))[0, 0]


def test_crop_takes_the_largest_centred_part():
    pixels = rng.integers(0, 256, (30, 50)).astype(np.uint8)
    decoded = decode_image(encoded(pixels), policy((15, 15), fit="crop"), "uint8", LIMITS)
    expected = Image.fromarray(pixels).crop((10, 0, 40, 30)).resize((15, 15), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(decoded.tensor[0, :, 1:-1], np.asarray(expected)[:, 1:-1])  # at the cut edges the filter looks beyond
    assert decoded.geometry.crop == (10, 0, 40, 30)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation(kind, orientation):
    stored = smooth(48, 32)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, kind, exif=exif, **({"quality": 95} if kind in ("JPEG", "WEBP") else {}))
    with Image.open(BytesIO(data)) as opened:
        upright = ImageOps.exif_transpose(opened).convert("RGB")
    size = (24, 16) if orientation < 5 else (16, 24)
    decoded = decode_image(data, policy(size, 3), "float32", LIMITS)
    expected = np.asarray(upright.resize(size, Image.Resampling.BILINEAR), float)
    assert np.abs(decoded.tensor.transpose(1, 2, 0) - expected).max() <= 1  # rounding between Pillow's two passes
    assert (decoded.geometry.orientation, decoded.geometry.sent, decoded.geometry.upright) == (orientation, (48, 32), upright.size)
    assert as_seen(data, policy(size, 3), LIMITS).size == upright.size
    ignoring = decode_image(data, policy((24, 16), 3, exif_orientation=False), "float32", LIMITS)
    assert ignoring.geometry.orientation == 1


def test_a_tiff_is_upright_once_read():
    stored, exif = smooth(48, 32), Image.Exif()
    exif[0x0112] = 6
    data = encoded(stored, "TIFF", exif=exif)
    decoded = decode_image(data, policy((32, 48), 3), "uint8", LIMITS)
    np.testing.assert_array_equal(decoded.tensor.transpose(1, 2, 0), np.rot90(stored, -1))
    assert decoded.geometry.sent == decoded.geometry.upright == as_seen(data, policy((32, 48), 3), LIMITS).size == (32, 48)


def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same():
    pixels = smooth(1601, 1203)
    data = encoded(pixels, "JPEG", quality=95)
    decoded = decode_image(data, policy((64, 48), 3), "float32", LIMITS)
    assert decoded.geometry.reduced == 8
    expected = np.asarray(Image.fromarray(pixels).resize((64, 48), Image.Resampling.BILINEAR), float)
    assert np.abs(decoded.tensor.transpose(1, 2, 0) - expected).max() < 4
    assert decode_image(data, policy((400, 300), 3), "uint8", LIMITS).geometry.reduced == 2
    assert decode_image(data, policy((900, 700), 3), "uint8", LIMITS).geometry.reduced == 1


def test_grey_becomes_rgb_and_rgb_grey():
    pixels = rng.integers(0, 256, (28, 28, 3)).astype(np.uint8)
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    np.testing.assert_array_equal(decode_image(encoded(pixels), policy(), "uint8", LIMITS).tensor[0], grey)
    for plane in decode_image(encoded(grey), policy(channels=3), "uint8", LIMITS).tensor:
        np.testing.assert_array_equal(plane, grey)


def test_alpha_shows_the_background():
    pixels = np.zeros((28, 28, 4), np.uint8)
    pixels[:, :, 0] = 200
    pixels[:, :14, 3] = 255
    decoded = decode_image(encoded(pixels), policy(channels=3, background=(10, 20, 30)), "uint8", LIMITS)
    assert decoded.tensor[:, 0, 0].tolist() == [200, 0, 0]
    assert decoded.tensor[:, 0, 27].tolist() == [10, 20, 30]


def test_a_palette_with_transparency():
    image = Image.new("P", (28, 28), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(1, (0, 0, 14, 28))
    decoded = decode_image(encoded(image, transparency=0), policy(channels=3, background=(9, 9, 9)), "uint8", LIMITS)
    assert decoded.tensor[:, 0, 0].tolist() == [0, 255, 0]
    assert decoded.tensor[:, 0, 27].tolist() == [9, 9, 9]


def test_one_bit_pictures():
    pixels = np.zeros((28, 28), bool)
    pixels[:, 5] = True
    tensor = decode_image(encoded(Image.fromarray(pixels)), policy(), "uint8", LIMITS).tensor
    assert tensor[0, 0, 4:7].tolist() == [0, 255, 0]


def test_sixteen_bit_grey_is_scaled_exactly():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    data = png_bytes(256, 256, 16, 0, [row.astype(">u2").tobytes() for row in values])
    decoded = decode_image(data, policy((256, 256)), "uint8", LIMITS)
    np.testing.assert_array_equal(decoded.tensor[0], np.round(values / 257).astype(np.uint8))


def test_sixteen_bit_rgb_is_scaled_or_refused():
    values = np.array([[[0, 32768, 65535]] * 4] * 4, ">u2")
    data = png_bytes(4, 4, 16, 2, [row.tobytes() for row in values])
    assert decode_image(data, policy((4, 4), 3), "uint8", LIMITS).tensor[:, 0, 0].tolist() == [0, 128, 255]
    with pytest.raises(BadInput, match="16 bits a channel"):
        decode_image(data, policy((4, 4), 3, sixteen_bit="refuse"), "uint8", LIMITS)


def test_sixteen_bit_grey_with_a_transparent_value():
    data = png_bytes(2, 1, 16, 0, [struct.pack(">HH", 1000, 65535)], extra=chunk(b"tRNS", struct.pack(">H", 1000)))
    tensor = decode_image(data, policy((2, 1), background=(77, 77, 77)), "uint8", LIMITS).tensor
    assert tensor[0, 0].tolist() == [77, 255]


@pytest.mark.parametrize(
    ("picture", "options", "changes", "message"),
    [
        (Image.new("I;16", (4, 4)), {}, {"sixteen_bit": "refuse"}, "16 bits a channel, this model takes 8"),
        (Image.new("CMYK", (4, 4)), {"kind": "JPEG"}, {"cmyk": "refuse"}, "CMYK"),
        (Image.new("F", (4, 4)), {"kind": "TIFF"}, {}, "32 bits a channel"),
        (Image.new("I", (4, 4)), {"kind": "TIFF"}, {}, "32 bits a channel"),
        (
            Image.new("L", (4, 4)),
            {"kind": "GIF", "save_all": True, "append_images": [Image.new("L", (4, 4), 255)]},
            {"animation": "refuse"},
            "several frames",
        ),
    ],
)
def test_policies_refuse(picture, options, changes, message):
    with pytest.raises(BadInput, match=message):
        decode_image(encoded(picture, **options), policy((4, 4), **changes), "uint8", LIMITS)


def test_cmyk_is_converted_and_the_first_frame_taken():
    cmyk = decode_image(encoded(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "JPEG"), policy((4, 4), 3), "uint8", LIMITS)
    assert cmyk.tensor[0].min() > 200
    assert cmyk.tensor[1].max() < 60
    frames = {"save_all": True, "append_images": [Image.new("L", (4, 4), 255)]}
    for kind in ("GIF", "WEBP", "TIFF", "PNG"):
        data = encoded(Image.new("L", (4, 4), 0), kind, **frames)
        assert decode_image(data, policy((4, 4)), "uint8", LIMITS).tensor.max() == 0


def test_polarity():
    digit = np.zeros((28, 28), np.uint8)
    digit[10:18, 12:16] = 255
    for sent, setting, inverted in [(digit, "auto", False), (255 - digit, "auto", True), (255 - digit, "invert", True)]:
        decoded = decode_image(encoded(sent), policy(polarity=setting), "uint8", LIMITS)
        np.testing.assert_array_equal(decoded.tensor[0], digit)
        assert decoded.geometry.inverted is inverted
    np.testing.assert_array_equal(decode_image(encoded(255 - digit), policy(), "uint8", LIMITS).tensor[0], 255 - digit)


def test_auto_polarity_judges_the_picture_and_not_its_margins():
    page = np.full((20, 40, 3), 250, np.uint8)
    decoded = decode_image(encoded(page), policy((28, 28), 3, fit="contain", polarity="auto"), "uint8", LIMITS)
    assert decoded.geometry.inverted
    assert decoded.tensor.max() == 5
    assert decoded.tensor[:, 0, 0].tolist() == [0, 0, 0]


def test_an_image_bomb_costs_nothing():
    bomb = png_bytes(30_000, 30_000, 8, 0, [])
    header_only = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)) + chunk(b"IDAT", b"")
    before, start = psutil.Process().memory_info().rss, time.perf_counter()
    with pytest.raises(TooLarge, match="WHYSERVE_MAX_PIXELS"):
        peek_pixels(webp_bomb(), LIMITS)
    for data in (bomb, header_only):
        for function in (lambda data: decode_image(data, policy(), "uint8", LIMITS), lambda data: peek_pixels(data, LIMITS)):
            with pytest.raises(
                TooLarge, match=r"30000 x 30000 = 900\.0 million pixels, the limit is 24\.0 million \(WHYSERVE_MAX_PIXELS\)"
            ):
                function(data)
    assert time.perf_counter() - start < 0.5
    assert psutil.Process().memory_info().rss - before < 20e6


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_every_format_is_limited_by_its_header(kind):
    data = encoded(np.zeros((101, 100, 3), np.uint8), kind)
    with pytest.raises(TooLarge, match="WHYSERVE_MAX_PIXELS"):
        decode_image(data, policy(), "uint8", ImageLimits(max_pixels=10_000))
    with pytest.raises(TooLarge, match="WHYSERVE_MAX_PIXELS"):
        peek_pixels(data, ImageLimits(max_pixels=10_000))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the picture is empty, expected PNG, JPEG, WEBP, BMP, GIF or TIFF"),
        (b"hello", "not a picture of a known format, expected PNG"),
        (b"%PDF-1.7", "not a picture of a known format"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "not a picture of a known format"),
        (b"\x89PNG\r\n\x1a\n", "PNG picture is damaged or truncated"),
        (b"\xff\xd8\xff", "JPEG picture is damaged or truncated"),
        (png_bytes(0, 5, 8, 0, []), "PNG picture is damaged or truncated: its header is invalid"),
        (png_bytes(4, 4, 3, 0, []), "PNG picture is damaged"),
    ],
)
def test_what_is_no_picture(data, message):
    with pytest.raises(BadInput, match=message):
        decode_image(data, policy(), "uint8", LIMITS)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's about TIFF tags
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_cut_and_damaged_files_are_bad_input_or_read(kind):
    """No other exception leaves the codec, whatever the bytes; a picture cut in half is never read."""
    data = encoded(rng.integers(0, 256, (40, 40, 3)).astype(np.uint8), kind)
    with pytest.raises(BadInput, match=rf"{kind} picture is damaged or truncated"):
        decode_image(data[: len(data) // 2], policy(), "uint8", LIMITS)
    for position in range(8, len(data), max(1, len(data) // 150)):
        damaged = data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]
        for attempt in (data[:position], damaged):
            try:
                decoded = decode_image(attempt, policy(), "uint8", LIMITS)
            except WhyserveError:
                continue
            assert decoded.tensor.shape == (1, 28, 28)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_broken_exif_block_is_no_broken_picture():
    pixels = smooth(28, 28)
    data = encoded(pixels, "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(decode_image(data, policy(channels=3), "uint8", LIMITS).tensor.transpose(1, 2, 0), pixels)


def test_png_round_trip():
    for shape in [(5, 7), (5, 7, 1), (5, 7, 3)]:
        pixels = rng.integers(0, 256, shape).astype(np.uint8)
        with Image.open(BytesIO(encode_png(pixels))) as image:
            np.testing.assert_array_equal(np.asarray(image), pixels.squeeze())


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_generated_image_is_stretched_from_its_range(layout):
    output = Output(name="image", kind="image", dtype="float32", shape=(1, 2, 2), range=(-1, 1), layout=layout)
    values = np.array([[-1.0, 0.0], [1.0, 1.5]], np.float32)
    array = values[None] if layout == "NCHW" else values[:, :, None]
    with Image.open(BytesIO(encode_image_output(array, output))) as image:
        assert np.asarray(image).tolist() == [[0, 128], [255, 255]]
    with pytest.raises(ModelFailed, match="NaN"):
        encode_image_output(array * np.nan, output)


def test_grid():
    pictures = [np.full((3, 4), value, np.uint8) for value in (1, 2, 3)]
    sheet = grid(pictures, 2, gap=1, background=9)
    assert sheet.tolist() == [[1] * 4 + [9] + [2] * 4] * 3 + [[9] * 9] + [[3] * 4 + [9] + [9] * 4] * 3
    assert grid(pictures[:1], 4).shape == (3, 4)

"""Encoded pictures to 8-bit grey or RGB pixels: the closed list of formats, limits before decoding, odd pixel kinds by policy."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from service.codecs.geometry import Size, turn
from service.errors import BadInput, TooLarge
from service.manifest import ImagePolicy

FORMATS = "PNG, JPEG, WEBP, BMP, GIF or TIFF"
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_BIT_DEPTH = 24
"""Where its header has it; only 8 is read here."""
_ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 258
_MAY_HOLD_EXIF = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
_TRANSPARENT_MODES = ("LA", "La", "PA", "RGBA", "RGBa")


@dataclass(frozen=True, slots=True)
class ImageLimits:
    max_pixels: int = 24_000_000
    """WHYSERVE_MAX_PIXELS."""


def open_picture(data: bytes, limits: ImageLimits) -> ImageFile:
    """The picture, its header read and nothing decoded. Raises BadInput, and TooLarge beyond `limits`.

    The plugin's class is called directly: `Image.open` costs a small PNG half as much again, and would try formats that
    aren't in the closed list.
    """
    reader = _reader(data)
    try:
        image = reader(BytesIO(data))
    except Image.DecompressionBombError as error:  # WebP only: its decoder needs the whole canvas to begin with
        raise TooLarge(f"the picture is too large to open: {error} (WHYSERVE_MAX_PIXELS is {limits.max_pixels})") from None
    except Exception as error:
        raise damaged(data, error) from None
    _require_pixels(image.size, limits)
    return image


def peek_pixels(data: bytes, limits: ImageLimits) -> int:
    """How many pixels decoding would give, from the header. Raises as `open_picture` does."""
    if data.startswith(_PNG):  # the size has a fixed place: no need for a whole parser on the common path
        if data[12:16] != b"IHDR" or len(data) < 24:
            raise BadInput("the PNG picture is damaged or truncated: its header is incomplete")
        size: Size = struct.unpack_from(">II", data, 16)
        _require_pixels(size, limits)
        return size[0] * size[1]
    width, height = open_picture(data, limits).size
    return width * height


def orientation_of(image: ImageFile) -> int:
    """The EXIF orientation still to be undone, 1 to 8; 1 where there is none or its block can't be read, and for a TIFF, whose
    own orientation tag Pillow has undone as part of reading it."""
    if image.format == "TIFF" or not any(key in image.info for key in _MAY_HOLD_EXIF):
        return 1
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken EXIF block is no broken picture, and Pillow's parser raises whatever its bytes lead it to
        return 1
    return orientation if orientation in range(1, 9) else 1


def eight_bit(image: ImageFile, policy: ImagePolicy) -> Image.Image:
    """The decoded picture in mode L or RGB, as the policy's `channels` wants it. Raises BadInput where the policy refuses."""
    wanted = "L" if policy.channels == 1 else "RGB"
    if policy.animation == "refuse" and getattr(image, "is_animated", False):
        raise BadInput("the picture has several frames or pages, this model takes pictures with one")
    if policy.sixteen_bit == "refuse" and _is_sixteen_bit(image):
        raise BadInput("the picture has 16 bits a channel, this model takes 8 bits")
    if policy.cmyk == "refuse" and image.mode == "CMYK":
        raise BadInput("the picture is in CMYK, this model takes grey or RGB pictures")
    image.load()
    plain: Image.Image = image
    if image.mode.startswith("I;16"):
        plain = _scaled_to_eight_bit(image)
    elif image.mode in ("I", "F"):
        raise BadInput("the picture has 32 bits a channel, expected 8 or 16")
    if plain.mode in _TRANSPARENT_MODES or "transparency" in plain.info:
        plain = _on_background(plain, policy.background)
    return plain if plain.mode == wanted else plain.convert(wanted)


def as_seen(data: bytes, policy: ImagePolicy, limits: ImageLimits) -> Image.Image:
    """The sent picture in RGB at its own size, turned as the policy turns it: what explanations are drawn on."""
    image = open_picture(data, limits)
    orientation = orientation_of(image) if policy.exif_orientation else 1
    try:
        pixels = eight_bit(image, policy.model_copy(update={"channels": 3}))
    except Exception as error:
        raise damaged(data, error) from None
    return pixels if orientation == 1 else Image.fromarray(np.ascontiguousarray(turn(np.asarray(pixels), orientation)))


def damaged(data: bytes, error: Exception) -> BadInput:
    """What Pillow raised on damaged bytes, as BadInput. Its plugins raise far more than their documentation names
    (SyntaxError, struct.error, IndexError, zlib.error, KeyError, ..), so callers catch Exception around Pillow alone."""
    if isinstance(error, BadInput):
        return error
    reason = "its header is invalid" if isinstance(error, SyntaxError) else str(error) or type(error).__name__
    return BadInput(f"the {_format_name(data)} picture is damaged or truncated: {reason}")


def _format_name(data: bytes) -> str:
    return next(name for magic, name, _ in _SIGNATURES if data.startswith(magic))


def _reader(data: bytes) -> Callable[[BytesIO], ImageFile]:
    for magic, name, reader in _SIGNATURES:
        if data.startswith(magic) and (name != "WEBP" or data[8:12] == b"WEBP"):
            return reader
    raise BadInput(f"not a picture of a known format, expected {FORMATS}" if data else f"the picture is empty, expected {FORMATS}")


def _require_pixels(size: Size, limits: ImageLimits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise TooLarge(
            f"the picture has {width} x {height} = {width * height / 1e6:.1f} million pixels, "
            f"the limit is {limits.max_pixels / 1e6:.1f} million (WHYSERVE_MAX_PIXELS)"
        )
    if width < 1 or height < 1:
        raise BadInput(f"the picture has {width} x {height} pixels, expected at least 1 x 1")


def _is_sixteen_bit(image: ImageFile) -> bool:
    """Pillow reads 16-bit RGB as 8-bit RGB without a word, so the file's own statement counts."""
    if image.mode.startswith("I;16"):
        return True
    if isinstance(image, TiffImageFile):
        return 16 in image.tag_v2.get(_BITS_PER_SAMPLE, (8,))
    tile = image.tile[0] if image.tile else None
    return isinstance(image, PngImageFile) and tile is not None and "16B" in str(tile.args)


def _scaled_to_eight_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    wide = values.astype(np.uint32)
    wide *= 255
    wide += 32895
    wide >>= 16  # in place: round(v / 257) without a second array of 4 bytes a pixel
    scaled = wide.astype(np.uint8)
    grey = Image.fromarray(scaled)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def _on_background(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    rgba = image.convert("RGBA")
    flat = Image.new("RGB", rgba.size, background)
    flat.paste(rgba, mask=rgba.getchannel("A"))
    return flat


_SIGNATURES: tuple[tuple[bytes, str, Callable[[BytesIO], ImageFile]], ...] = (
    (_PNG, "PNG", PngImageFile),
    (b"\xff\xd8\xff", "JPEG", JpegImageFile),
    (b"RIFF", "WEBP", WebPImageFile),
    (b"BM", "BMP", BmpImageFile),
    (b"GIF87a", "GIF", GifImageFile),
    (b"GIF89a", "GIF", GifImageFile),
    (b"II*\0", "TIFF", TiffImageFile),
    (b"MM\0*", "TIFF", TiffImageFile),
    (b"II+\0", "TIFF", TiffImageFile),
    (b"MM\0+", "TIFF", TiffImageFile),
)

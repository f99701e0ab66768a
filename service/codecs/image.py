"""Encoded pictures to input tensors with the geometry that maps them back, and image tensors to PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from service.codecs.geometry import Filter, Geometry, Size, swapped, turn
from service.codecs.picture import ImageLimits, damaged, eight_bit, open_picture, orientation_of, peek_pixels
from service.codecs.png import read_plain_png
from service.errors import ModelFailed
from service.manifest import ImagePolicy, Output

__all__ = ["DecodedImage", "ImageLimits", "decode_image", "encode_image_output", "encode_png", "grid", "peek_pixels"]

Array = npt.NDArray[Any]

_DRAFT_MARGIN = 2
"""A JPEG is decoded at a fraction of its size only where it stays this many times larger than needed: the resize, which the
geometry knows exactly, then does the visible part of the smoothing."""


class DecodedImage(NamedTuple):
    """`tensor` is C-contiguous, of the input's dtype, (C, H, W) or (H, W, C) by the policy's layout, and may be read-only."""

    tensor: Array
    geometry: Geometry


def decode_image(data: bytes, policy: ImagePolicy, dtype: npt.DTypeLike, limits: ImageLimits) -> DecodedImage:
    """One encoded picture as the model's input, values 0 to 255.

    Raises BadInput for what isn't a whole picture of the closed list of formats or what the policy refuses, TooLarge
    beyond the pixel limit, judged by the header.
    """
    plain = read_plain_png(data, policy.width, policy.height, policy.channels)
    if plain is not None:
        pixels, geometry = plain, _unchanged((policy.width, policy.height), policy.filter)
    else:
        image = open_picture(data, limits)
        try:
            pixels, geometry = _fitted_pixels(image, policy)
        except Exception as error:
            raise damaged(data, error) from None
    if policy.polarity == "invert" or (policy.polarity == "auto" and _has_bright_border(pixels)):
        pixels, geometry = 255 - pixels, replace(geometry, inverted=True)
    if geometry.resized != geometry.frame:
        pixels = _in_frame(pixels, geometry.offset, policy)
    return DecodedImage(_as_tensor(pixels, policy, dtype), geometry)


def encode_png(pixels: Array) -> bytes:
    """A PNG of (H, W), (H, W, 1) or (H, W, 3) uint8."""
    buffer = BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def image_output_pixels(array: Array, output: Output) -> Array:
    """A generated picture, (C, H, W) or (H, W, C) by the output's layout, as (H, W, C) uint8: its range (0 to 255 where
    the manifest gives none) stretched to 0 to 255. Raises ModelFailed for NaN."""
    pixels = np.asarray(array, np.float32)
    if np.isnan(pixels).any():
        raise ModelFailed(f"output {output.name!r}: the generated picture holds NaN")
    low, high = output.range or (0.0, 255.0)
    pixels = np.clip((pixels - low) * (255.0 / (high - low)), 0, 255).round().astype(np.uint8)
    return pixels if output.layout == "NHWC" else np.ascontiguousarray(pixels.transpose(1, 2, 0))


def encode_image_output(array: Array, output: Output) -> bytes:
    """A generated picture as PNG; see `image_output_pixels`."""
    return encode_png(image_output_pixels(array, output))


def grid(images: Sequence[Array], columns: int, *, gap: int = 2, background: int = 128) -> Array:
    """Pictures of one shape, (H, W) or (H, W, C) uint8, in rows of `columns`, `gap` pixels of grey between them."""
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height, width = images[0].shape[:2]
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, *images[0].shape[2:]), background, np.uint8)
    for index, image in enumerate(images):
        y, x = index // columns * (height + gap), index % columns * (width + gap)
        sheet[y : y + height, x : x + width] = image
    return sheet


@dataclass(frozen=True, slots=True)
class _Fitted:
    """The part of a picture that is kept and the size it is brought to, in stored pixels."""

    crop: tuple[float, float, float, float]
    size: Size


@lru_cache(maxsize=64)  # of every picture that comes at the model's own size it is the same
def _unchanged(size: Size, resampling: Filter) -> Geometry:
    return Geometry(size, size, (0.0, 0.0, float(size[0]), float(size[1])), size, resampling)


def _fitted_pixels(image: ImageFile, policy: ImagePolicy) -> tuple[Array, Geometry]:
    """The part of the frame that the picture fills, upright, before polarity and margins."""
    orientation = orientation_of(image) if policy.exif_orientation else 1
    sent, frame = image.size, (policy.width, policy.height)
    fitted = _fit(sent, swapped(frame, orientation), policy)
    reduced = _draft(image, fitted, policy)
    pixels = turn(_resize(eight_bit(image, policy), fitted, reduced, policy), orientation)
    resized = swapped(fitted.size, orientation)
    offset = ((frame[0] - resized[0]) // 2, (frame[1] - resized[1]) // 2)
    return pixels, Geometry(sent, frame, fitted.crop, resized, policy.filter, orientation, reduced, offset)


def _fit(sent: Size, frame: Size, policy: ImagePolicy) -> _Fitted:
    (width, height), whole = sent, (0.0, 0.0, float(sent[0]), float(sent[1]))
    if sent == frame or policy.fit == "stretch":
        return _Fitted(whole, frame)
    if policy.fit == "contain":
        scale = min(frame[0] / width, frame[1] / height)
        return _Fitted(whole, (min(frame[0], max(1, round(width * scale))), min(frame[1], max(1, round(height * scale)))))
    scale = min(width / frame[0], height / frame[1])  # crop: the largest centred part of the frame's proportions
    kept = (min(frame[0] * scale, width), min(frame[1] * scale, height))  # min: a product may round to just above
    x, y = (width - kept[0]) / 2, (height - kept[1]) / 2
    return _Fitted((x, y, width - x, height - y), frame)


def _draft(image: ImageFile, fitted: _Fitted, policy: ImagePolicy) -> int:
    """Asks the JPEG decoder for 1/2, 1/4 or 1/8 of the size where that is plenty; the divisor."""
    if not isinstance(image, JpegImageFile) or policy.filter == "nearest":
        return 1
    spare = min((fitted.crop[2] - fitted.crop[0]) / fitted.size[0], (fitted.crop[3] - fitted.crop[1]) / fitted.size[1]) / _DRAFT_MARGIN
    factor = next((factor for factor in (8, 4, 2) if spare >= factor), 1)
    if factor > 1:
        image.draft(None, (image.width // factor, image.height // factor))
    return factor


def _resize(picture: Image.Image, fitted: _Fitted, reduced: int, policy: ImagePolicy) -> Array:
    x0, y0, x1, y1 = (edge / reduced for edge in fitted.crop)
    if fitted.size != picture.size or (x0, y0, x1, y1) != (0, 0, *picture.size):
        picture = picture.resize(fitted.size, Image.Resampling[policy.filter.upper()], box=(x0, y0, x1, y1))
    return _pixels_of(picture)


def _mode(policy: ImagePolicy) -> str:
    return "L" if policy.channels == 1 else "RGB"


def _pixels_of(picture: Image.Image) -> Array:
    """(H, W) or (H, W, 3) uint8. tobytes() makes one copy; np.asarray(picture) makes two and takes twice as long."""
    width, height = picture.size
    return np.frombuffer(picture.tobytes(), np.uint8).reshape((height, width) if picture.mode == "L" else (height, width, 3))


def _has_bright_border(pixels: Array) -> bool:
    """Whether the four edges together are brighter than mid-grey. Sums of bytes: for 28 x 28 that beats numpy."""
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    raw, row = pixels.tobytes(), width * channels
    edges = [raw[:row], raw[-row:]]
    for channel in range(channels):
        edges += [raw[channel::row], raw[row - channels + channel :: row]]
    return bool(sum(map(sum, edges)) > 255 * (width + height) * channels)


def _in_frame(pixels: Array, offset: tuple[int, int], policy: ImagePolicy) -> Array:
    red, green, blue = policy.background
    # ITU-R 601 luma, as Pillow's own conversion to grey
    colour = round(0.299 * red + 0.587 * green + 0.114 * blue) if policy.channels == 1 else policy.background
    frame = np.empty((policy.height, policy.width, *pixels.shape[2:]), np.uint8)
    frame[:] = colour
    frame[offset[1] : offset[1] + pixels.shape[0], offset[0] : offset[0] + pixels.shape[1]] = pixels
    return frame


def _as_tensor(pixels: Array, policy: ImagePolicy, dtype: npt.DTypeLike) -> Array:
    if policy.channels == 1:
        shape = (1, policy.height, policy.width) if policy.layout == "NCHW" else (policy.height, policy.width, 1)
        return np.ascontiguousarray(pixels, dtype).reshape(shape)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) if policy.layout == "NCHW" else pixels, dtype)

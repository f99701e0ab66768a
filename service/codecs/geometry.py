"""How a sent picture became the model's frame, and the way back: the resize's adjoint for numbers, a smooth one for display.

All steps are linear in the pixels: cut and resize (in the sent picture's own, stored pixels), EXIF turn, placement in the frame.
Resizing is Pillow's: separable, filter supports widened by the scale when shrinking, rows of each 1-d matrix summing to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[Any]
Filter = Literal["nearest", "box", "bilinear", "bicubic", "lanczos"]
Size = tuple[int, int]
"""Width, height."""

TURNED = frozenset({5, 6, 7, 8})
"""The EXIF orientations that swap width and height."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """What was done to one sent picture, in this order."""

    sent: Size
    """As stored in the file, before any EXIF turn."""
    frame: Size
    """The model's."""
    crop: tuple[float, float, float, float]
    """x0, y0, x1, y1: the part that was kept, in the sent picture's stored pixels."""
    resized: Size
    """What the kept part became, upright."""
    filter: Filter
    orientation: int = 1
    """EXIF orientation that was undone, 1 to 8."""
    reduced: int = 1
    """A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size before it is resized; one such pixel stands for that many squared."""
    offset: tuple[int, int] = (0, 0)
    """x, y of the resized part's corner in the frame."""
    inverted: bool = False

    @property
    def upright(self) -> Size:
        """The sent picture's size as it is seen, after the EXIF turn."""
        return swapped(self.sent, self.orientation)

    def to_json(self) -> dict[str, Any]:
        return {
            "sent": {"width": self.sent[0], "height": self.sent[1]},
            "crop_box": list(self.crop),
            "resized": {"width": self.resized[0], "height": self.resized[1]},
            "filter": self.filter,
            "decoded_at": f"1/{self.reduced}",
            "exif_orientation": self.orientation,
            "offset": list(self.offset),
            "frame": {"width": self.frame[0], "height": self.frame[1]},
            "inverted": self.inverted,
        }


def swapped(size: Size, orientation: int) -> Size:
    return (size[1], size[0]) if orientation in TURNED else size


def turn(pixels: Array, orientation: int) -> Array:
    """Stored pixels (H, W, ..) as the EXIF orientation wants them seen."""
    return _TURNS[orientation](pixels)


def unturn(pixels: Array, orientation: int) -> Array:
    """The inverse of `turn`: upright pixels back in stored order."""
    return _TURNS[{6: 8, 8: 6}.get(orientation, orientation)](pixels)


def adjoint(attributions: Array, geometry: Geometry) -> Array:
    """Attributions of the model's frame (H, W, C) at the sent picture's stored pixels (sent height, sent width, C), float64.

    With the resize written as x = A s, a linear function of x with gradient g has the gradient A^T g in s, and so
    attributions move by A^T. The rows of A sum to 1, so sums are kept, but for what lies in the margins of `fit: contain`:
    no sent pixel stands there (see `margin_sum`).
    """
    part = unturn(_placed(attributions, geometry), geometry.orientation).astype(np.float64)  # (h, w, C), stored order
    x0, y0, x1, y1 = (edge / geometry.reduced for edge in geometry.crop)
    columns = resampling_matrix(_reduced(geometry.sent[0], geometry), part.shape[1], x0, x1, geometry.filter)  # (w, W)
    rows = resampling_matrix(_reduced(geometry.sent[1], geometry), part.shape[0], y0, y1, geometry.filter)  # (h, H)
    at_decoded = np.einsum("hH,hwc,wW->HWc", rows, part, columns, optimize=True)
    return _spread(_spread(at_decoded, 0, geometry.sent[1], geometry.reduced), 1, geometry.sent[0], geometry.reduced)


def margin_sum(attributions: Array, geometry: Geometry) -> float:
    """What `adjoint` has no place for: the sum over the margins of `fit: contain`."""
    return float(attributions.sum(dtype=np.float64) - _placed(attributions, geometry).sum(dtype=np.float64))


def upsample(attributions: Array, geometry: Geometry, *, outside: float = 0) -> Array:
    """Attributions of the model's frame (H, W) as a smooth map over the upright sent picture, for looking at.

    Values, not sums, are kept; `outside` stands where the picture was cut away. uint8 stays uint8 (a quarter of the memory
    for a large photo), anything else becomes float32.
    """
    part = unturn(_placed(attributions, geometry), geometry.orientation)
    part = np.ascontiguousarray(part, np.uint8 if attributions.dtype == np.uint8 else np.float32)
    x0, y0, x1, y1 = (round(edge) for edge in geometry.crop)
    smooth = np.asarray(Image.fromarray(part).resize((max(x1 - x0, 1), max(y1 - y0, 1)), Image.Resampling.BICUBIC))
    if smooth.shape == (geometry.sent[1], geometry.sent[0]):
        return turn(smooth, geometry.orientation)
    whole = np.full((geometry.sent[1], geometry.sent[0]), outside, part.dtype)
    whole[y0 : y0 + smooth.shape[0], x0 : x0 + smooth.shape[1]] = smooth
    return turn(whole, geometry.orientation)


def resampling_matrix(size: int, resized: int, start: float, end: float, name: Filter) -> Array:
    """The weights (resized, size) with which Pillow's `resize` makes `resized` pixels of the box `start` to `end` of `size` pixels."""
    scale = (end - start) / resized
    centres = start + (np.arange(resized) + 0.5) * scale  # (resized,)
    if name == "nearest":
        nearest = np.minimum(np.floor(centres).astype(int), size - 1)
        return np.asarray(np.eye(size)[nearest])
    support, kernel = _KERNELS[name]
    stretch = max(scale, 1.0)
    reach = support * stretch
    first = np.maximum((centres - reach + 0.5).astype(int), 0)[:, None]
    behind = np.minimum((centres + reach + 0.5).astype(int), size)[:, None]
    pixels = np.arange(size)[None, :]
    weights = kernel((pixels + 0.5 - centres[:, None]) / stretch)  # (resized, size)
    weights = np.where((pixels >= first) & (pixels < behind), weights, 0.0)
    result: Array = weights / weights.sum(axis=1, keepdims=True)
    return result


def _placed(attributions: Array, geometry: Geometry) -> Array:
    (x, y), (width, height) = geometry.offset, geometry.resized
    return attributions[y : y + height, x : x + width]


def _reduced(size: int, geometry: Geometry) -> int:
    return -(-size // geometry.reduced)


def _spread(values: Array, axis: int, size: int, factor: int) -> Array:
    """Each value shared equally among the `factor` pixels (fewer at the end) that it was made of."""
    if factor == 1:
        return values
    counts = np.diff(np.append(np.arange(0, size, factor), size))
    shape = [1, 1, 1]
    shape[axis] = -1
    return np.repeat(values / counts.reshape(shape), counts, axis=axis)


def _bicubic(x: Array) -> Array:
    """Keys' kernel with a = -0.5, as Pillow uses it."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


_KERNELS: dict[str, tuple[float, Callable[[Array], Array]]] = {
    "box": (0.5, lambda x: ((x > -0.5) & (x <= 0.5)).astype(float)),
    "bilinear": (1.0, lambda x: np.maximum(1.0 - np.abs(x), 0.0)),
    "bicubic": (2.0, _bicubic),
    "lanczos": (3.0, lambda x: np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)),
}

_TURNS: dict[int, Callable[[Array], Array]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, 1),
}

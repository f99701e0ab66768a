"""PNGs that hold pixels and nothing else, read by libspng: a small one takes it a tenth of the time it takes Pillow."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

try:
    import pyspng
except ImportError:  # no wheel for this platform: Pillow reads them all
    pyspng = None

Array = npt.NDArray[Any]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">4sIIBBBBB")
"""Chunk type, width, height, bit depth, colour type, compression, filter, interlace; at byte 12."""
_CHUNK = struct.Struct(">I4s")
_CHECKSUM = struct.Struct(">I")
_PIXELS_ONLY = frozenset({b"IHDR", b"IDAT", b"IEND"})
_LEAST = 33
"""Bytes of the signature and the header chunk."""
_COLOURS = {0: 1, 2: 3}
"""Channels of the colour types grey and RGB."""


def read_plain_png(data: bytes, width: int, height: int, channels: int) -> Array | None:
    """(H, W) or (H, W, 3) uint8 of an 8-bit PNG of just that size and colour, (PNG specification, section 11).

    None for everything else, and for a damaged file: Pillow then reads it, or says what is wrong. Of other chunks than
    IHDR, IDAT and IEND some change what the pixels mean (transparency, orientation, animation), so any of them is "else".
    """
    if pyspng is None or not data.startswith(_SIGNATURE) or len(data) < _LEAST:
        return None
    kind, wide, high, depth, colour, _, _, interlace = _HEADER.unpack_from(data, 12)
    if kind != b"IHDR" or (wide, high, depth, interlace) != (width, height, 8, 0) or _COLOURS.get(colour) != channels:
        return None
    if not _holds_pixels_only(data):
        return None
    try:
        pixels: Array = pyspng.load(data)
    except (RuntimeError, ValueError):
        return None
    return pixels if pixels.dtype == np.uint8 else None


def _holds_pixels_only(data: bytes) -> bool:
    """Whether the chunks are IHDR and IDAT, as far as IEND, which ends the file, each with the checksum it claims.

    libspng doesn't look at the checksums: without this a damaged picture would give damaged pixels.
    """
    position, end = len(_SIGNATURE), len(data)
    while position + 12 <= end:
        length: int
        kind: bytes
        length, kind = _CHUNK.unpack_from(data, position)
        following = position + 12 + length
        if kind not in _PIXELS_ONLY or following > end:
            return False
        if zlib.crc32(data[position + 4 : following - 4]) != _CHECKSUM.unpack_from(data, following - 4)[0]:
            return False
        if kind == b"IEND":
            return following == end
        position = following
    return False

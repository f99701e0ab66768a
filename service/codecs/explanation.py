"""An explanation in the V1 protocol's form: attributions laid out as the instance was sent, and what maps them back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from service.codecs.audio import sound_fields
from service.codecs.geometry import adjoint
from service.codecs.image import DecodedImage
from service.codecs.instance import Instance
from service.codecs.text import DecodedText
from service.errors import TooLarge
from service.manifest import Input, Manifest

Array = np.ndarray[Any, Any]
Coordinates = Literal["model", "sent"]

_SENT_LIMIT = 512
"""Pixels a side: beyond it attributions in the sent picture's own pixels would be larger than the picture file by far."""


def encode_explanation(
    manifest: Manifest, instance: Instance, attributions: Mapping[str, Array] | None, fields: Mapping[str, Any], coordinates: Coordinates
) -> dict[str, Any]:
    """The explanation of one instance as JSON values (arrays are C-contiguous numpy arrays).

    `attributions` by input, each without the batch axis; None where there is none to trust. Raises TooLarge for
    `coordinates="sent"` of a picture above 512 x 512.
    """
    parts = {i.name: _encode_input(i, instance, attributions, coordinates) for i in manifest.inputs if _explained(i, attributions)}
    together = next(iter(parts.values())) if len(manifest.inputs) == 1 and parts else _by_name(parts)
    shown = {name: value for name, value in fields.items() if name not in ("predicted_index", "target_index")}
    return {**shown, "attributions": None, **together, "warnings": [*fields.get("warnings", ()), *instance.warnings]}


def as_height_width_channel(array: Array, declared: Input) -> Array:
    """Attributions of a picture, (C, H, W) or (H, W, C) by the manifest's layout, as (H, W, C)."""
    assert declared.image is not None
    return array if declared.image.layout == "NHWC" else array.transpose(1, 2, 0)


def _explained(declared: Input, attributions: Mapping[str, Array] | None) -> bool:
    return attributions is None or declared.name in attributions


def _by_name(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """`{input: {field: value}}` turned round to `{field: {input: value}}`."""
    fields: dict[str, Any] = {}
    for name, part in parts.items():
        for field, value in part.items():
            fields.setdefault(field, {})[name] = value
    return fields


def _encode_input(
    declared: Input, instance: Instance, attributions: Mapping[str, Array] | None, coordinates: Coordinates
) -> dict[str, Any]:
    array = None if attributions is None else attributions[declared.name]
    if declared.name in instance.images:
        return _encode_picture(declared, instance.images[declared.name], array, coordinates)
    if declared.name in instance.texts:
        return _encode_text(instance.texts[declared.name], array)
    if declared.audio and declared.name in instance.sounds:
        placed = sound_fields(instance.sounds[declared.name], declared.audio)
        return {"attributions": None if array is None else np.ascontiguousarray(array), "sound": placed}
    if declared.table:
        columns = [column.name for column in declared.table.columns]
        return {"attributions": None if array is None else np.ascontiguousarray(array), "columns": columns}
    if array is not None and array.ndim == 0:  # `ascontiguousarray` would make a list of a number
        return {"attributions": float(array)}
    return {"attributions": None if array is None else np.ascontiguousarray(array)}


def _encode_picture(declared: Input, picture: DecodedImage, array: Array | None, coordinates: Coordinates) -> dict[str, Any]:
    fields = {"geometry": picture.geometry.to_json(), "coordinates": coordinates}
    if array is None:
        return {"attributions": None, **fields}
    pixels = as_height_width_channel(array, declared)
    if coordinates == "sent":
        width, height = picture.geometry.upright
        if max(width, height) > _SENT_LIMIT:
            raise TooLarge(f"coordinates=sent is for pictures up to {_SENT_LIMIT} x {_SENT_LIMIT}, this one is {width} x {height}")
        pixels = adjoint(pixels, picture.geometry)
    return {"attributions": np.ascontiguousarray(pixels), **fields}


def _encode_text(text: DecodedText, array: Array | None) -> dict[str, Any]:
    return {
        "attributions": None if array is None else np.ascontiguousarray(array),
        "tokens": [None if token is None else asdict(token) for token in text.tokens],
        **({"truncated_at": text.truncated_at} if text.truncated_at is not None else {}),
    }

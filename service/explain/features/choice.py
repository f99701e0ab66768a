"""Which features an input is cut into: as asked for, by its codec otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from numpy.typing import NDArray

from service.errors import BadParameter, UnknownChoice
from service.explain.features.blocks import blocks, elements
from service.explain.features.feature import Features, Groups, numbered
from service.explain.features.sound import Patches
from service.explain.features.table import columns
from service.explain.methods.request import ExplainRequest
from service.manifest import Input, Manifest

Array = NDArray[Any]
KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "image": ("superpixels", "grid", "pixels"),
    "text": ("tokens", "words"),
    "table": ("columns",),
    "audio": ("patches", "grid"),
    "tensor": ("elements", "grid"),
}
"""By codec, the default one first."""
COUNT: Final[Mapping[str, int]] = {"superpixels": 50, "grid": 64, "patches": 64}
"""How many there are where the request doesn't say."""
MOST_ELEMENTS = 256
"""A larger tensor is cut into a grid by default."""
MOST = 4096
"""Features of an input: each costs at least one row of the model."""


def choose(request: ExplainRequest, manifest: Manifest, instance: Mapping[str, Array]) -> dict[str, Features]:
    """The features of each of the manifest's inputs for one instance (arrays (1, ..) by graph input), which is the request's
    only one. Raises UnknownChoice and BadParameter."""
    spec = getattr(request.parameters, "features", None)
    by_input: Mapping[str, Any] = spec if isinstance(spec, Mapping) else {}
    names = [entry.name for entry in manifest.inputs]
    for name in by_input:
        if name not in names:
            raise UnknownChoice("input in parameter 'features'", name, names)
    fitting = [entry for entry in manifest.inputs if isinstance(spec, str) and spec in KINDS[entry.codec]]
    if isinstance(spec, str) and not fitting:
        raise UnknownChoice("features", spec, dict.fromkeys(kind for entry in manifest.inputs for kind in KINDS[entry.codec]))
    asked = {entry.name: spec for entry in fitting} | dict(by_input)
    sizes = getattr(request.parameters, "n_features", None)
    found: dict[str, Features] = {}
    for entry in manifest.inputs:
        x = instance[entry.name][0]
        groups = request.features.get(entry.name)
        kind = asked.get(entry.name)
        found[entry.name] = _sent(groups[0], entry, x, kind) if groups is not None else _of_kind(kind, sizes, entry, x)
        if found[entry.name].count > MOST:
            raise BadParameter(
                f"parameter 'features': input {entry.name!r} would have {found[entry.name].count} features, at most {MOST}; "
                "expected a coarser kind, or 'grid' with 'n_features'"
            )
    return found


def _of_kind(kind: str | None, count: int | None, entry: Input, x: Array) -> Features:
    if kind is not None and kind not in KINDS[entry.codec]:
        raise UnknownChoice(f"features of input {entry.name!r}", kind, KINDS[entry.codec])
    kind = kind or _default(entry, x)
    wanted = count or (MOST_ELEMENTS if entry.codec == "tensor" else COUNT.get(kind, MOST_ELEMENTS))
    if kind == "patches":
        assert entry.audio is not None
        return Patches.about(wanted, entry.audio.sample_rate, x.shape)
    numbers = _numbers(kind, wanted, entry, x)
    return Groups(numbers, {"kind": kind, "count": int(numbers.max()) + 1})


def _numbers(kind: str, count: int, entry: Input, x: Array) -> Array:
    match kind:
        case "superpixels" | "pixels" | "grid" if entry.image:
            from service.explain.features import picture  # scikit-image takes half a second

            if kind == "superpixels":
                numbers = picture.superpixels(x, entry, count)
            else:
                numbers = picture.pixels(entry.image) if kind == "pixels" else picture.squares(entry.image, count)
            return picture.of_elements(numbers, x, entry.image)
        case "columns":
            assert entry.table is not None
            return columns(entry.table, x.shape)
        case "words":
            raise BadParameter(
                f"parameter 'features': words need the text itself, and input {entry.name!r} came as ids; expected 'tokens', or a tensor "
                f"'features.{entry.name}' with the number of each id's word"
            )
        case "grid":
            return blocks(x.shape, count)
    return elements(x.shape)


def _default(entry: Input, x: Array) -> str:
    if entry.codec == "tensor" and math.prod(x.shape) > MOST_ELEMENTS:
        return "grid"
    return KINDS[entry.codec][0]


def _sent(groups: Array, entry: Input, x: Array, kind: str | None) -> Features:
    """Those that travelled with the instance: the words of a text, or a grouping of the client's own."""
    if groups.shape != x.shape or groups.dtype.kind not in "iu":
        raise BadParameter(
            f"tensor 'features.{entry.name}': {groups.dtype} of shape {list(groups.shape)} a row, expected integers {list(x.shape)}"
        )
    numbers = numbered(groups)
    return Groups(numbers, {"kind": kind or "sent", "count": int(numbers.max(initial=0)) + 1})


def cells(entry: Input, x: Array) -> tuple[Groups, tuple[int, ...]]:
    """The finest features that a window may slide over, and their shape: pixels, else elements."""
    if entry.image:
        from service.explain.features import picture

        numbers = picture.of_elements(picture.pixels(entry.image), x, entry.image)
        return Groups(numbers, {"kind": "pixels"}), (entry.image.height, entry.image.width)
    return Groups(elements(x.shape), {"kind": "elements"}), x.shape or (1,)

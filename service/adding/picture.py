"""An input that takes pictures: where its channels are, its size, and the arithmetic on pixels that goes into the graph."""

from __future__ import annotations

from typing import Literal, cast

from service.adding.draft import Draft
from service.adding.refused import NotAdded
from service.adding.rewrite import PixelArithmetic, with_pixels, with_sizes
from service.adding.wishes import Wishes
from service.engine.running import TensorInfo
from service.manifest import ImagePolicy, Input, Shape

Layout = Literal["NCHW", "NHWC"]
_FLOATS = ("float16", "float32", "float64")
_LEAST = 8
"""Pixels: nobody's pictures are smaller, so such a tensor is no picture unless the user says so."""


def looks_like_picture(info: TensorInfo) -> bool:
    """Whether a graph input (with batch axis) is most likely a picture: one or three channels, and the rest large or open."""
    if len(info.shape) != 4 or info.dtype not in (*_FLOATS, "uint8"):
        return False
    first, last = info.shape[1], info.shape[3]
    inner = info.shape[2:] if first in (1, 3) else info.shape[1:3] if last in (1, 3) else None
    return inner is not None and all(size is None or size >= _LEAST for size in inner)


def as_picture(draft: Draft, info: TensorInfo, wishes: Wishes) -> Draft:
    """The input described as a picture, arithmetic and size put into the graph. Raises NotAdded: what is missing or contradicts."""
    inner = info.shape[1:]
    layout, channels, (height, width) = _frame(info.name, inner, wishes)
    shape = (channels, height, width) if layout == "NCHW" else (height, width, channels)
    kept = shape if len(inner) == 3 else (height, width) if len(inner) == 2 else (height * width,)
    if info.dtype not in (*_FLOATS, "uint8"):
        raise NotAdded(f"input {info.name!r} is {info.dtype}: pictures go into float or uint8 inputs; add it with --input tensor")
    if info.dtype == "uint8" and (wishes.pixels or kept != shape):
        raise NotAdded(
            f"input {info.name!r} is uint8: it takes pixels of a picture with a channel axis as they are; --mean, --std and --scale "
            "would need a float input"
        )
    if wishes.pixels and channels == 1 and 3 in (len(wishes.pixels.mean), len(wishes.pixels.std)):
        raise NotAdded(f"--mean and --std: three numbers for input {info.name!r}, which has one channel")
    if None in inner:
        draft = draft.changed(with_sizes(draft.model, info.name, kept), f"input {info.name!r} fixed to {list(kept)} a row (--size)")
    dtype = info.dtype
    if wishes.pixels or kept != shape:
        draft, dtype = _prepended(draft, info.name, wishes.pixels, shape, kept, layout), "float32"
    elif info.dtype != "uint8":
        draft = draft.noted(
            "no --mean, --std or --scale: the model gets pixels from 0 to 255 as they are. One trained on values from 0 to 1 "
            "needs --scale 255, one with ImageNet's normalisation --mean .485 .456 .406 --std .229 .224 .225"
        )
    policy = ImagePolicy(height=height, width=width, channels=cast(Literal[1, 3], channels), layout=layout, fit=wishes.fit)
    described = Input.model_validate(
        {"name": info.name, "codec": "image", "dtype": dtype, "shape": shape, "range": (0, 255), "image": policy.model_dump()}
    )
    return draft.with_inputs(described)


def _prepended(
    draft: Draft, name: str, pixels: PixelArithmetic | None, shape: tuple[int, int, int], inner: tuple[int, ...], layout: Layout
) -> Draft:
    model = with_pixels(draft.model, name, pixels, shape, inner, layout)
    if pixels is None:
        return draft.changed(model, f"input {name!r} takes a picture {list(shape)} now, reshaped to {list(inner)} inside the graph")
    words = f"{pixels.in_words} computed inside the graph: input {name!r} takes pixels from 0 to 255, so what is sent is what is explained"
    return draft.changed(model, words)


def _frame(name: str, inner: Shape, wishes: Wishes) -> tuple[Layout, int, tuple[int, int]]:
    """Layout, channels and (height, width) of an input whose rows are `inner`."""
    if len(inner) == 3:
        layout = wishes.layout or _layout(name, inner)
        found = inner[0] if layout == "NCHW" else inner[2]
        size = inner[1:] if layout == "NCHW" else inner[:2]
        return layout, _channels(name, found, wishes), _size(name, size, wishes)
    layout = wishes.layout or "NCHW"
    if len(inner) == 2:
        return layout, 1, _size(name, inner, wishes)
    if len(inner) != 1:
        raise NotAdded(f"input {name!r} has rows of shape {_shown(inner)}: no picture's (channels, height, width)")
    if wishes.size is None or inner[0] not in (None, wishes.size[0] * wishes.size[1]):
        count = inner[0] or "any number of"
        raise NotAdded(f"input {name!r} takes {count} numbers in a line: say --size HEIGHTxWIDTH of a grey picture of so many pixels")
    return layout, 1, wishes.size


def _layout(name: str, inner: Shape) -> Layout:
    first, last = inner[0] in (1, 3), inner[2] in (1, 3)
    if first and not last:
        return "NCHW"
    if last and not first:
        return "NHWC"
    if None not in inner and not first:
        raise NotAdded(f"input {name!r} has rows of shape {_shown(inner)}: pictures have 1 or 3 channels; add it with --input tensor")
    raise NotAdded(f"input {name!r} has rows of shape {_shown(inner)}: say --layout NCHW or NHWC")


def _channels(name: str, found: int | None, wishes: Wishes) -> int:
    if found is not None:
        if found not in (1, 3):
            raise NotAdded(f"input {name!r} has {found} channels, pictures have 1 or 3; add it with --input tensor")
        if wishes.channels not in (None, found):
            raise NotAdded(f"--channels {wishes.channels}: input {name!r} has {found}")
        return found
    if wishes.channels is not None:
        return wishes.channels
    if wishes.pixels and 3 in (len(wishes.pixels.mean), len(wishes.pixels.std)):
        return 3
    raise NotAdded(f"input {name!r} leaves the number of channels open: say --channels 1 or 3")


def _size(name: str, found: Shape, wishes: Wishes) -> tuple[int, int]:
    if wishes.size is not None:
        if any(size not in (None, asked) for size, asked in zip(found, wishes.size, strict=True)):
            raise NotAdded(f"--size {wishes.size[0]}x{wishes.size[1]}: input {name!r} is {_shown(found)}, height and width")
        return wishes.size
    height, width = found
    if height is None or width is None:
        raise NotAdded(f"input {name!r} leaves its size open ({_shown(found)}): say --size HEIGHTxWIDTH")
    return height, width


def _shown(shape: Shape) -> str:
    return str(["any" if size is None else size for size in shape]).replace("'", "")

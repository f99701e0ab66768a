"""What is explained: from a request's target to one number a row of an output."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import BadParameter, UnknownChoice
from service.explain.methods.parameters import Region
from service.manifest import Output

Spec = int | str | list[int] | Region | None
Selector = tuple[int | slice, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """A part of an output's row: `selector` indexes it (without the batch axis), what is left is summed up."""

    selector: Selector
    sign: float = 1.0
    index: int | None = None
    """The class or element, flat in row-major order; None for a sum over more than a class."""
    described: dict[str, Any] = field(default_factory=dict)
    """As an answer's `target` names it."""

    def of(self, values: Any) -> Any:
        """(N, ..) to (N,), for numpy arrays and torch tensors alike."""
        picked = values[(slice(None), *self.selector)]
        summed = picked if picked.ndim == 1 else picked.reshape(picked.shape[0], -1).sum(1)
        return summed if self.sign == 1 else self.sign * summed

    def slope(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The gradient of `of` in values of this shape (N, ..), for each row."""
        found = np.zeros(shape, np.float32)
        found[(slice(None), *self.selector)] = self.sign
        return found


def is_single_score(output: Output) -> bool:
    """Whether one sigmoid score stands for two classes: it is class 1's, class 0 has its negative."""
    size = output.shape[-1] if output.shape else 1
    return output.kind == "classes" and output.activation == "sigmoid" and size in (1, None) and len(output.labels) in (0, 2)


def predicted(output: Output, row: NDArray[Any]) -> int | None:
    """The predicted class of one row (without batch axis), None where the output isn't a choice of classes."""
    if output.kind != "classes" or row.size == 0:
        return None
    if is_single_score(output):
        return int(row.reshape(-1)[0] > (0.5 if output.activated else 0.0))
    return int(row.reshape(-1).argmax()) if row.ndim == 1 else None


def resolve(spec: Spec, output: Output, row: NDArray[Any]) -> Target:
    """The target a request names, for a model that answered `row` (without batch axis). Raises BadParameter, UnknownChoice."""
    match output.kind:
        case "classes" if is_single_score(output) or row.ndim == 1:
            return _class(spec, output, row)
        case "value":
            return _element(0 if spec is None else spec, output, row)
        case "image" | "mask" if row.ndim == 3:
            return _area(spec, output, row)
        case _:
            return _element(spec, output, row)


def _class(spec: Spec, output: Output, row: NDArray[Any]) -> Target:
    count = 2 if is_single_score(output) else row.shape[0]
    if isinstance(spec, Region):
        raise BadParameter(f"target: output {output.name!r} has no regions; expected a label or an index")
    if isinstance(spec, list):
        if len(spec) != 1:
            raise BadParameter(f"target: output {output.name!r} has one axis beside the batch, got {len(spec)} indices")
        spec = spec[0]
    index = predicted(output, row) if spec is None else _class_index(spec, output, count)
    assert index is not None  # a vector of classes always predicts one
    described = ({"label": output.labels[index]} if index < len(output.labels) else {}) | {"index": index}
    if is_single_score(output):
        return Target((0,) * row.ndim, 1.0 if index else -1.0, index, described)
    return Target((index,), 1.0, index, described)


def _class_index(spec: int | str, output: Output, count: int) -> int:
    if isinstance(spec, str):
        if spec in output.labels:  # a label may be a number, as a digit's is: it goes before an index
            return output.labels.index(spec)
        if not spec.isascii() or not spec.isdigit():
            raise UnknownChoice("target label", spec, output.labels or [f"indices 0 to {count - 1}"])
        spec = int(spec)
    if not 0 <= spec < count:
        named = f" ({', '.join(output.labels)})" if output.labels else ""
        raise BadParameter(f"target: index {spec} is out of range, expected 0 to {count - 1}{named}")
    return spec


def _element(spec: Spec, output: Output, row: NDArray[Any]) -> Target:
    """One element, by its index on each axis."""
    if isinstance(spec, Region):
        raise BadParameter(f"target: output {output.name!r} has no regions; expected {row.ndim} indices")
    if spec is None:
        indices = tuple(int(i) for i in np.unravel_index(int(row.argmax()), row.shape))
    elif isinstance(spec, list):
        indices = tuple(spec)
    elif row.ndim == 0 and spec in (0, "0"):
        indices = ()
    else:
        labels = output.labels
        indices = (labels.index(spec) if isinstance(spec, str) and spec in labels else _number(spec, output),)
        if row.ndim > 1 and row.size == row.shape[-1]:
            indices = (0,) * (row.ndim - 1) + indices
    if len(indices) != row.ndim or any(not 0 <= i < size for i, size in zip(indices, row.shape, strict=False)):
        raise BadParameter(
            f"target: {list(indices)} is no element of output {output.name!r}, whose shape is {list(row.shape)} without the batch axis"
        )
    flat = int(np.ravel_multi_index(indices, row.shape)) if indices else 0
    described: dict[str, Any] = {"index": indices[0] if len(indices) == 1 else list(indices) if indices else 0}
    if flat < len(output.labels) and row.ndim <= 1:
        described = {"label": output.labels[flat], **described}
    return Target(indices, 1.0, flat, described)


def _number(spec: int | str, output: Output) -> int:
    if isinstance(spec, int):
        return spec
    if spec.isascii() and spec.isdigit():
        return int(spec)
    raise UnknownChoice("target", spec, output.labels or ["an index"])


def _area(spec: Spec, output: Output, row: NDArray[Any]) -> Target:
    """A channel (of a mask: a class) summed over a region, by default the whole image."""
    if isinstance(spec, list):
        return _element(spec, output, row)
    channels_first = output.layout != "NHWC"
    channels, height, width = row.shape if channels_first else (row.shape[2], *row.shape[:2])
    area = spec if isinstance(spec, Region) else Region(index=spec)
    x0, y0, x1, y1 = area.region or (0, 0, width, height)
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise BadParameter(f"target: region {[x0, y0, x1, y1]} is not within the output's {width} x {height} pixels (x0, y0, x1, y1)")
    channel: int | slice = slice(None)
    if area.index is not None:
        channel = _class_index(area.index, output, channels)
    elif output.kind == "mask":
        winners = row.argmax(0 if channels_first else 2)
        channel = int(np.bincount(winners.reshape(-1), minlength=channels).argmax())
    box = (slice(y0, y1), slice(x0, x1))
    described: dict[str, Any] = {"region": [x0, y0, x1, y1]}
    if isinstance(channel, int):
        described = ({"label": output.labels[channel]} if channel < len(output.labels) else {}) | {"index": channel} | described
    return Target((channel, *box) if channels_first else (*box, channel), 1.0, channel if isinstance(channel, int) else None, described)

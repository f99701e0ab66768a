"""Reference sets: typical instances that an instance is compared with, from the bundle or sent along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from service.errors import BadParameter, NotExplainable
from service.explain.case import Case, Tensors
from service.explain.subject import attributed
from service.manifest import Input

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class References:
    """Of one case."""

    points: Tensors
    """(R, ..) each: the attributed tensors of the reference instances."""
    outputs: NDArray[np.float32]
    """(R,): F of the served model there."""
    warnings: tuple[str, ...]

    @property
    def count(self) -> int:
        return len(self.outputs)

    @property
    def output(self) -> float:
        """The mean of F."""
        return float(self.outputs.astype(np.float64).mean())


def of(case: Case) -> References:
    """The reference set of the request, or of the bundle, as this case is compared with it: inputs that it doesn't hold are
    the instance's own. Raises NotExplainable (there is none) and BadParameter (it doesn't fit)."""
    feeds, warnings = instances(case)
    points, outputs = [], []
    count = len(next(iter(feeds.values())))
    for start in range(0, count, case.forward_rows):
        case.token.check()
        chunk = {name: array[start : start + case.forward_rows] for name, array in feeds.items()}
        rows = min(case.forward_rows, count - start)
        whole = {name: np.repeat(array, rows, 0) for name, array in case.feeds.items()} | chunk
        point = tuple(attributed(case.subject, whole, case.subject.served.run(whole)))
        points.append(point)
        outputs.append(case.served(point))  # the rest of the model is this case's: its mask, its lengths
    return References(tuple(torch.cat(column) for column in zip(*points, strict=True)), np.concatenate(outputs), warnings)


def instances(case: Case) -> tuple[dict[str, Array], tuple[str, ...]]:
    """The reference instances (R, ..) by input, in the shapes of this case's instance, and what that changed. Raises
    NotExplainable (there are none) and BadParameter (they don't fit)."""
    sent = case.request.reference
    inputs = {entry.name: entry for entry in case.subject.manifest.inputs}
    known = {name: array for name, array in sent.items() if name in inputs}
    if not known:
        raise NotExplainable(
            f"{case.request.method.title} compares with typical instances, and the model's bundle has none; "
            "send some in parameter 'reference'"
        )
    warnings: list[str] = []
    feeds = {name: _fitted(array, inputs[name], case.feeds[name], warnings) for name, array in known.items()}
    return feeds, tuple(warnings)


def _fitted(array: Array, entry: Input, x: Array, warnings: list[str]) -> Array:
    """Instances (R, ..) in the shape of the instance `x` (1, ..): texts are padded or cut to its length."""
    if entry.text is not None and array.ndim == 2 and array.shape[1] != x.shape[1]:
        length = x.shape[1]
        warnings.append(f"the reference texts of input {entry.name!r} were padded or cut to the {length} tokens of the instance")
        fitted = np.full((len(array), length), entry.text.pad_id, x.dtype)
        kept = min(length, array.shape[1])
        fitted[:, :kept] = array[:, :kept]
        return fitted
    if array.shape[1:] != x.shape[1:]:
        raise BadParameter(
            f"parameter 'reference': instances of input {entry.name!r} have shape {list(array.shape[1:])}, expected {list(x.shape[1:])} "
            "as the instance has"
        )
    return np.ascontiguousarray(array.astype(x.dtype))

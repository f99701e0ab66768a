"""What an instance is compared with: from a manifest's or a request's baseline to arrays.

A baseline is taken at the input, or (for a discrete input) at the float tensor where its attribution is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.codecs.tensor import check_tensor
from service.errors import BadParameter, UnknownChoice
from service.manifest import Baseline, Input, Manifest

Array = NDArray[Any]
KINDS = ("zero", "constant", "token", "mean")


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """One input's baseline. `input` replaces the input itself; otherwise `fill` fills the tensor of its attribution."""

    described: Any
    """As an answer's `parameters` names it."""
    input: Array | None = None
    fill: float = 0.0


def choose(spec: Any, manifest: Manifest, names: list[str], instance: Mapping[str, Array]) -> dict[str, Chosen]:
    """The baseline of each attributed input in `names` for one instance (arrays (1, ..) by graph input).

    `spec` is a request's: None, a name of KINDS, a number, an instance of the first input, or an object of these by input.
    Raises BadParameter and UnknownChoice.
    """
    by_input: Mapping[str, Any] = spec if isinstance(spec, dict) else dict.fromkeys(names, spec)
    if isinstance(spec, list) and len(names) > 1:
        raise BadParameter(f"parameter 'baseline': the model has several inputs, expected an object with {', '.join(names)}")
    for name in by_input:
        if name not in names:
            raise UnknownChoice("input in parameter 'baseline'", name, names)
    declared = manifest.explain.baseline if manifest.explain else {}
    inputs = {i.name: i for i in manifest.inputs}
    return {name: _one(by_input.get(name), inputs[name], declared.get(name, Baseline(kind="zero")), instance[name]) for name in names}


def _one(spec: Any, entry: Input, declared: Baseline, x: Array) -> Chosen:
    if spec is None:
        return _kind(declared, entry, x)
    if isinstance(spec, bool):
        raise BadParameter(f"parameter 'baseline': expected a name, a number or an instance, got {spec!r}")
    if isinstance(spec, str):
        number = _number(spec)
        if number is not None:
            return _kind(Baseline(kind="constant", value=number), entry, x)
        if spec not in KINDS:
            raise UnknownChoice("baseline", spec, KINDS)
        # A name alone means the manifest's own of that kind, with its value.
        return _kind(declared if declared.kind == spec else Baseline(kind=spec), entry, x)
    if isinstance(spec, int | float):
        return _kind(Baseline(kind="constant", value=float(spec)), entry, x)
    return _instance(spec, entry, x)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _kind(baseline: Baseline, entry: Input, x: Array) -> Chosen:
    match baseline.kind:
        case "zero":
            return Chosen("zero")
        case "constant":
            if baseline.value is None:
                raise BadParameter("parameter 'baseline': 'constant' needs its value, send the number itself")
            if not abs(baseline.value) <= np.finfo(np.float32).max:  # NaN too
                raise BadParameter(f"parameter 'baseline': expected a number of float32's range, got {baseline.value}")
            return Chosen(baseline.value, fill=baseline.value)
        case "token":
            value = baseline.value if baseline.value is not None else entry.text.pad_id if entry.text else None
            if value is None:
                raise BadParameter(f"parameter 'baseline': 'token' is for text, input {entry.name!r} is {entry.codec}")
            return Chosen({"token": int(value)}, input=np.full_like(x, int(value)))
        case "mean":
            means = [column.mean for column in entry.table.columns] if entry.table else [None]
            if None in means:
                raise BadParameter(f"parameter 'baseline': 'mean' needs the mean of every column of input {entry.name!r} in the manifest")
            return Chosen("mean", input=np.broadcast_to(np.asarray(means, x.dtype), x.shape))
        case other:
            raise UnknownChoice("baseline", other, KINDS)


def _instance(spec: Any, entry: Input, x: Array) -> Chosen:
    try:
        array = np.asarray(spec, x.dtype)
    except (ValueError, TypeError, OverflowError):
        raise BadParameter(f"parameter 'baseline': expected an instance of input {entry.name!r}, a nested list of {entry.dtype}") from None
    if array.shape != x.shape[1:]:
        raise BadParameter(f"parameter 'baseline': shape {list(array.shape)}, expected {list(x.shape[1:])} as the instance has")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise BadParameter("parameter 'baseline': holds NaN or Infinity")
    if array.dtype.kind in "iu":  # indices: the model fails on one that it has no row for
        check_tensor(array, entry)
    return Chosen("instance", input=array[None])

"""What an instance is compared with: from a manifest's or a request's baseline to arrays.

A baseline is taken at the input, or (for a discrete input) at the float tensor where its attribution is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from service.codecs.tensor import check_tensor
from service.errors import BadParameter, UnknownChoice
from service.explain.methods.request import ExplainRequest
from service.manifest import Baseline, Input, Manifest

Array = NDArray[Any]
Draws = Callable[[], np.random.Generator]
_ZERO = Baseline(kind="zero")
KINDS = ("zero", "mean", "blur", "noise", "uniform", "token", "missing", "constant")
BLUR = 0.1
"""Standard deviation of the blur where the manifest names none, as a part of the picture's longer side."""
NOISE = 0.25
"""Standard deviation of the noise where the manifest names none, as a part of what the values span."""


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """One input's baseline. `input` replaces the input itself; otherwise `fill` fills the tensor of its attribution."""

    described: Any
    """As an answer's `parameters` names it."""
    input: Array | None = None
    fill: float = 0.0


def choose(request: ExplainRequest, manifest: Manifest, names: list[str], instance: Mapping[str, Array]) -> dict[str, Chosen]:
    """The baseline of each input in `names` for one instance (arrays (1, ..) by graph input).

    A request's `baseline` is None, a name of KINDS, a number, an instance of the first input, or an object of these by
    input; instances that came encoded are in `request.baseline`. Random ones are drawn by the request's seed, which is why
    every instance of a request is compared with the same draw. Raises BadParameter and UnknownChoice.
    """
    spec = getattr(request.parameters, "baseline", None)
    by_input: Mapping[str, Any] = spec if isinstance(spec, dict) else dict.fromkeys(names, spec)
    if isinstance(spec, list) and len(names) > 1:
        raise BadParameter(f"parameter 'baseline': the model has several inputs, expected an object with {', '.join(names)}")
    inputs = {i.name: i for i in manifest.inputs}
    for name in by_input:
        if name not in inputs:
            raise UnknownChoice("input in parameter 'baseline'", name, names)
    declared = manifest.explain.baseline if manifest.explain else {}
    sent = {name: request.baseline.get(name, by_input.get(name)) for name in names}
    rng = cache(lambda: np.random.default_rng(request.parameters.seed))  # made where something is drawn: it takes longer than the rest
    chosen = {name: _one(sent[name], inputs[name], declared.get(name, _ZERO), instance[name], rng) for name in names}
    if request.method.needs_twin and any(c.described == "missing" for c in chosen.values()):
        raise BadParameter(
            "parameter 'baseline': no gradient comes from missing values; expected another one, or a method without gradients"
        )
    return chosen


def described(chosen: Mapping[str, Chosen]) -> Any:
    """As an answer's `parameters` name it: by input where there are several."""
    every = {name: c.described for name, c in chosen.items()}
    return next(iter(every.values())) if len(every) == 1 else every


def _one(spec: Any, entry: Input, declared: Baseline, x: Array, rng: Draws) -> Chosen:
    if spec is None:
        return _kind(declared, entry, x, rng)
    if isinstance(spec, bool):
        raise BadParameter(f"parameter 'baseline': expected a name, a number or an instance, got {spec!r}")
    if isinstance(spec, str):
        number = _number(spec)
        if number is not None:
            return _kind(Baseline(kind="constant", value=number), entry, x, rng)
        if spec not in KINDS:
            raise UnknownChoice("baseline", spec, KINDS)
        # A name alone means the manifest's own of that kind, with its value.
        return _kind(declared if declared.kind == spec else Baseline(kind=spec), entry, x, rng)
    if isinstance(spec, int | float):
        return _kind(Baseline(kind="constant", value=float(spec)), entry, x, rng)
    return _instance(spec, entry, x)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _kind(baseline: Baseline, entry: Input, x: Array, rng: Draws) -> Chosen:
    match baseline.kind:
        case "zero":
            return Chosen("zero")
        case "constant":
            return _constant(baseline.value)
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
        case "missing":
            if not entry.allow_missing or x.dtype.kind != "f":
                raise BadParameter(f"parameter 'baseline': input {entry.name!r} has no missing values (allow_missing in the manifest)")
            return Chosen("missing", input=np.full_like(x, np.nan))
        case "blur":
            return _blurred(baseline.value, entry, x)
        case "noise" | "uniform":
            return _drawn(baseline, entry, x, rng())


def _constant(value: float | None) -> Chosen:
    if value is None:
        raise BadParameter("parameter 'baseline': 'constant' needs its value, send the number itself")
    if not abs(value) <= np.finfo(np.float32).max:  # NaN too
        raise BadParameter(f"parameter 'baseline': expected a number of float32's range, got {value}")
    return Chosen(value, fill=value)


def _blurred(sigma: float | None, entry: Input, x: Array) -> Chosen:
    """The picture out of focus (Fong and Vedaldi 2017, https://arxiv.org/abs/1704.03296): what is there at large, no detail."""
    if entry.image is None:
        raise BadParameter(f"parameter 'baseline': 'blur' is for pictures, input {entry.name!r} is {entry.codec}")
    sigma = sigma if sigma is not None else BLUR * max(entry.image.height, entry.image.width)
    axes = (1, 2) if entry.image.layout == "NHWC" else (2, 3)
    blurred = ndimage.gaussian_filter(x.astype(np.float32), sigma, axes=axes, mode="nearest")
    return Chosen({"blur": sigma}, input=_rounded(blurred, x))


def _drawn(baseline: Baseline, entry: Input, x: Array, rng: np.random.Generator) -> Chosen:
    """Gaussian noise around the instance, or values drawn evenly, both within what the input's values span."""
    low, high = _span(baseline.kind, entry, x)  # (..) each, without the batch axis
    if baseline.kind == "uniform":
        return Chosen("uniform", input=_rounded(rng.uniform(low, high, x.shape), x))
    part = baseline.value if baseline.value is not None else NOISE
    noisy = x + rng.standard_normal(x.shape) * (part * (high - low))
    return Chosen({"noise": part}, input=_rounded(np.clip(noisy, low, high), x))


def _span(kind: str, entry: Input, x: Array) -> tuple[Array, Array]:
    columns = entry.table.columns if entry.table else ()
    if entry.range is not None and x.dtype.kind in "fu" and not entry.text:
        return np.full(x.shape[1:], entry.range[0]), np.full(x.shape[1:], entry.range[1])
    if columns and all(c.minimum is not None and c.maximum is not None for c in columns):
        return np.asarray([c.minimum for c in columns], np.float64), np.asarray([c.maximum for c in columns], np.float64)
    if entry.codec == "audio":
        return np.full(x.shape[1:], -1.0), np.full(x.shape[1:], 1.0)
    raise BadParameter(f"parameter 'baseline': {kind!r} needs to know what the values of input {entry.name!r} span (range in the manifest)")


def _rounded(values: Array, x: Array) -> Array:
    return (np.rint(values) if x.dtype.kind in "iu" else values).astype(x.dtype)


def _instance(spec: Any, entry: Input, x: Array) -> Chosen:
    try:
        array = np.asarray(spec, x.dtype)
    except (ValueError, TypeError, OverflowError):
        raise BadParameter(f"parameter 'baseline': expected an instance of input {entry.name!r}, a nested list of {entry.dtype}") from None
    if array.shape == x.shape:
        array = array[0]  # one that travelled as a tensor
    if array.shape != x.shape[1:]:
        raise BadParameter(f"parameter 'baseline': shape {list(array.shape)}, expected {list(x.shape[1:])} as the instance has")
    if array.dtype.kind == "f" and not entry.allow_missing and not np.isfinite(array).all():
        raise BadParameter("parameter 'baseline': holds NaN or Infinity")
    if array.dtype.kind in "iu":  # indices: the model fails on one that it has no row for
        check_tensor(array, entry)
    return Chosen("instance", input=array[None])

"""What stands in an input's place where its features are left out: of every input, also those that no gradient reaches.

A request's or a manifest's baseline where there is one, and where an input is floats. Otherwise what means nothing: the padding
token, an empty string; of a class its other classes, each in turn, F being the mean over them. Where nothing means nothing
(an integer that nobody described) the request has to say it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.codecs.tensor import check_tensor
from service.errors import BadInput, BadParameter, UnknownChoice
from service.explain import baselines
from service.explain.case import Case
from service.manifest import Input

Array = NDArray[Any]
MOST_OTHERS = 16
"""Of more classes than these, so many evenly spaced ones stand for all."""


@dataclass(frozen=True, slots=True, eq=False)
class Absent:
    """`rows` (A, ..) replace the input, F being the mean over them; without rows, `fill` fills the tensor where the input is
    attributed to."""

    described: Any
    rows: Array | None = None
    fill: float = 0.0


def choose(case: Case) -> dict[str, Absent]:
    """By input of the manifest. Raises BadParameter, UnknownChoice."""
    manifest, request = case.subject.manifest, case.request
    spec = getattr(request.parameters, "baseline", None)
    inputs = {entry.name: entry for entry in manifest.inputs}
    by_input: Mapping[str, Any] = spec if isinstance(spec, Mapping) else {}
    asked = set(by_input) | set(request.baseline)
    # A name or a number alone is about floats, where there are some.
    if spec is not None and not isinstance(spec, Mapping):
        asked |= set(case.subject.at) or set(inputs)
    declared = set(manifest.explain.baseline) if manifest.explain else set()
    strings = {name for name, entry in inputs.items() if entry.dtype == "string"}
    known = [name for name in inputs if name in asked | declared | set(case.subject.at) and name not in strings]
    if set(by_input) - set(inputs):
        known = known or list(inputs)  # whose names the error lists
    chosen = baselines.choose(request, manifest, known, case.feeds) if known else {}
    found = {}
    for name, entry in inputs.items():
        x = case.feeds[name]
        if name in strings:
            found[name] = _text(request.baseline.get(name, by_input.get(name, spec if name in asked else None)), entry, x)
        elif name in chosen:
            found[name] = _chosen(chosen[name], entry, x, cut=case.subject.at.get(name, name) != name)
            if name not in asked and entry.table and chosen[name].described in ("zero", "mean"):
                found[name] = _with_other_categories(found[name], entry, x)
        else:
            found[name] = _nothing(entry, x)
    return found


def described(absent: Mapping[str, Absent]) -> Any:
    """As an answer's `parameters` name them: by input where there are several."""
    every = {name: one.described for name, one in absent.items()}
    return next(iter(every.values())) if len(every) == 1 else every


def _chosen(chosen: baselines.Chosen, entry: Input, x: Array, *, cut: bool) -> Absent:
    if chosen.input is not None:
        return Absent(chosen.described, np.asarray(chosen.input))
    if cut:
        return Absent(chosen.described, fill=chosen.fill)
    filled = np.full(x.shape, chosen.fill, np.float64)
    try:
        return Absent(chosen.described, check_tensor(filled[0], entry)[None])
    except (BadInput, UnknownChoice) as error:
        raise BadParameter(f"parameter 'baseline': {error.message}") from None


def _text(spec: Any, entry: Input, x: Array) -> Absent:
    """Strings: the empty one, or those that the request names."""
    if spec is None:
        return Absent("empty", np.full_like(x, ""))
    array = np.asarray(spec, object)
    if array.shape not in ((), x.shape[1:], x.shape) or not all(isinstance(value, str) for value in array.reshape(-1)):
        raise BadParameter(f"parameter 'baseline': expected a string for input {entry.name!r}, or strings of shape {list(x.shape[1:])}")
    return Absent(spec if isinstance(spec, str) else "instance", np.broadcast_to(array, x.shape))


def _nothing(entry: Input, x: Array) -> Absent:
    """Where nobody said anything of an input that isn't floats."""
    if entry.text:
        return Absent({"token": entry.text.pad_id}, np.full_like(x, entry.text.pad_id))
    if entry.labels:
        return _other_labels(entry, x)
    if x.dtype.kind == "b":
        return Absent("the other value", ~x)
    if entry.table:
        means = [round(column.mean) if column.mean is not None else 0 for column in entry.table.columns]
        known = all(column.mean is not None for column in entry.table.columns)
        return _with_other_categories(Absent("mean" if known else "zero", np.broadcast_to(np.asarray(means, x.dtype), x.shape)), entry, x)
    if entry.image or x.dtype == np.uint8:
        return Absent("zero", np.zeros_like(x))
    raise BadParameter(
        f"parameter 'baseline': input {entry.name!r} holds integers of which none is known to stand for nothing; "
        f'expected the one that does, as {{"{entry.name}": 0}}, or an instance'
    )


def _other_labels(entry: Input, x: Array) -> Absent:
    """Of each class another one, and another one in each row."""
    count = len(entry.labels)
    rows = [(x[0].astype(np.int64) + step) % count for step in _steps(count)]
    return Absent("the other classes", np.stack(rows).astype(x.dtype))


def _with_other_categories(absent: Absent, entry: Input, x: Array) -> Absent:
    """A table's row whose category columns are each other category in turn: none of them stands for nothing, and the number of
    one is no amount."""
    assert entry.table is not None
    sizes = {i: len(column.categories) for i, column in enumerate(entry.table.columns) if len(column.categories) > 1}
    if not sizes or absent.rows is None:
        return absent
    turns = {i: _steps(size) for i, size in sizes.items()}
    rows = np.repeat(absent.rows, max(map(len, turns.values())), 0)  # (A, columns)
    for i, steps in turns.items():
        if np.isfinite(float(x[0, i])):
            rows[:, i] = [(int(x[0, i]) + steps[a % len(steps)]) % sizes[i] for a in range(len(rows))]
    return Absent({"numbers": absent.described, "categories": "the other categories"}, rows)


def _steps(count: int) -> list[int]:
    """From a class to each other one, or to MOST_OTHERS of them."""
    others = np.arange(1, max(count, 2))
    return others[np.linspace(0, len(others) - 1, min(len(others), MOST_OTHERS)).round().astype(int)].tolist()  # type: ignore[no-any-return]

"""F of the served model as a function of which features are there: what every method by perturbation asks.

Captum's methods are given this game instead of the model: their input is the row of ones (1, K), one a feature, their baseline
zeros, and `forward` makes of each row of zeros and ones the input that it stands for and asks ONNX Runtime. So whatever a
feature is (an area, a word, a string, a patch of a spectrogram, a missing value), only the rows of one pass are ever made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.errors import BadParameter, ModelFailed, NotExplainable
from service.explain.case import Case
from service.explain.features import Features
from service.explain.features.absent import Absent

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One input of the game: its features are the columns `place` among all features."""

    name: str
    features: Features
    tensor: str
    """Where it is changed: the graph input itself, or the tensor at which the served model is cut."""
    x: Array
    """(1, ..)"""
    absent: Array
    """(A, ..)"""
    place: slice

    def mixed(self, present: Array, turns: Array) -> Array:
        """Rows (N, ..), for all features' presence (N, ..) and which of `absent` stands in each row (N,)."""
        absent = self.absent if len(self.absent) == 1 else self.absent[turns % len(self.absent)]
        return self.features.mix(present[:, self.place], self.x, absent)


class Game:
    """`features` and `absent` by input of the manifest. Features that are what stands in their place change nothing: they have
    no part in the game and no attribution, unless `whole` says otherwise. Counts the rows that the served model computes."""

    def __init__(self, case: Case, features: Mapping[str, Features], absent: Mapping[str, Absent], *, whole: bool = False) -> None:
        self._case = case
        self.parts = _parts(case, features, absent)
        self._idle = np.concatenate([part.features.idle(part.x, part.absent) for part in self.parts])
        self._active = np.arange(len(self._idle)) if whole else np.flatnonzero(~self._idle)
        self.count = len(self._active)
        """K."""
        self.turns = max(len(part.absent) for part in self.parts)
        """Rows of the model for one row of the game."""
        self.rows = 0

    @cached_property
    def full(self) -> float:
        """F of the instance."""
        return self._case.instance_output

    @cached_property
    def empty(self) -> float:
        """F where every feature is left out."""
        if self.count == 0:
            return self.full
        return float(self._asked(np.zeros((1, self.count), bool))[0])

    @cached_property
    def pass_rows(self) -> int:
        return self._case.forward_rows

    def value(self, present: Array) -> Array:
        """F (N,), float64, for rows (N, K) bool. Raises NotExplainable where the model answers no number."""
        values = np.empty(len(present))
        whole, none = present.all(1), ~present.any(1)
        values[whole] = self.full
        if none.any():
            values[none] = self.empty
        rest = ~whole & ~none
        if rest.any():
            values[rest] = self._asked(present[rest])
        return values

    def value_in_turn(self, present: Array, turns: Array) -> Array:
        """F (N,), where of what is absent the one with that number (N,) stands in the row."""
        steps = range(0, len(present), self.pass_rows)
        return np.concatenate([self._pass(present[i : i + self.pass_rows], turns[i : i + self.pass_rows]) for i in steps])

    def forward(self, *present: Tensor) -> Tensor:
        """F (N,), float64, of one tensor (N, K) or of one (N, ..) an input, as Captum calls it."""
        rows = torch.cat([t.flatten(1) for t in present], 1)
        return torch.from_numpy(self.value(rows.numpy() > 0.5))

    @property
    def ones(self) -> Tensor:
        """What Captum explains: every feature there, (1, K)."""
        return torch.ones(1, self.count)

    def attributions(self, values: Array) -> dict[str, Array]:
        """Those of the features (K,) as those of the inputs' elements, by input."""
        every = self._every(values)
        return {part.name: part.features.spread(every[part.place]) for part in self.parts}

    def drawing(self, values: Array) -> dict[str, Any]:
        """What else an answer shows: of the one input, or by input."""
        every = self._every(values)
        drawn = {part.name: part.features.drawing(every[part.place]) for part in self.parts}
        if len(self.parts) == 1:
            return dict(drawn[self.parts[0].name])
        fields = dict.fromkeys(field for drawing in drawn.values() for field in drawing)
        return {field: {name: drawing[field] for name, drawing in drawn.items() if field in drawing} for field in fields}

    @property
    def described(self) -> Any:
        """The features, as an answer's `parameters` name them."""
        idle = {part.name: int(self._idle[part.place].sum()) for part in self.parts}
        every = {p.name: dict(p.features.described) | ({"as_baseline": idle[p.name]} if idle[p.name] else {}) for p in self.parts}
        return next(iter(every.values())) if len(every) == 1 else every

    def _every(self, values: Array) -> Array:
        """Those of the features in the game (K,) among all features'."""
        every = np.zeros(len(self._idle))
        every[self._active] = values
        return every

    # ------------------------------------------------------------------------------------------------ the served model

    def _asked(self, present: Array) -> Array:
        """F (N,), each the mean over its turns."""
        rows = np.repeat(np.arange(len(present)), self.turns)
        turns = np.tile(np.arange(self.turns), len(present))
        steps = range(0, len(rows), self.pass_rows)
        values = [self._pass(present[rows[i : i + self.pass_rows]], turns[i : i + self.pass_rows]) for i in steps]
        return np.asarray(np.concatenate(values).reshape(len(present), self.turns).mean(1))

    def _pass(self, present: Array, turns: Array) -> Array:
        case, served = self._case, self._case.subject.served
        case.token.check()
        self.rows += len(present)
        there = np.ones((len(present), len(self._idle)), bool)
        there[:, self._active] = present
        mixed = {part.tensor: part.mixed(there, turns) for part in self.parts}
        feeds = {name: mixed.get(name, np.repeat(array, len(present), 0)) for name, array in case.feeds.items()}
        cut = {tensor: array for tensor, array in mixed.items() if tensor not in feeds}
        try:
            ran = self._behind(feeds, cut) if cut else served.run(feeds)
        except ModelFailed as error:
            raise BadParameter(
                f"parameter 'baseline': with features left out {error.message}; expected a baseline that the model takes"
            ) from None
        values = np.asarray(case.f(ran), np.float64)
        if not np.isfinite(values).all():
            raise NotExplainable("the model answers NaN or Infinity where features are left out; expected another baseline")
        return values

    def _behind(self, feeds: Mapping[str, Array], cut: Mapping[str, Array]) -> Mapping[str, Array]:
        """What the model answers behind the cut: from what was mixed there, and from what it makes of the inputs mixed as inputs."""
        served = self._case.subject.served
        others = set(self._case.subject.at.values()) - set(cut) - set(feeds)
        ran = served.run(feeds) if others else {}
        return served.tail({**feeds, **{tensor: ran[tensor] for tensor in others}, **cut})


def _parts(case: Case, features: Mapping[str, Features], absent: Mapping[str, Absent]) -> tuple[Part, ...]:
    parts, start = [], 0
    for name, own in features.items():
        missing, tensor = absent[name], name
        x = case.feeds[name]
        if missing.rows is None:
            tensor = case.subject.at[name]
            x = case.ran[tensor]
        rows = missing.rows if missing.rows is not None else np.full((1,) * x.ndim, missing.fill, x.dtype)
        parts.append(Part(name, own, tensor, x, rows, slice(start, start + own.count)))
        start += own.count
    return tuple(parts)

"""What an entry of the table says of a method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from service.explain.methods.parameters import CommonParameters

Need = Literal["gradients", "modules", "baseline", "reference", "perturbation", "picture"]
"""`gradients`: a twin that passes them; `modules`: a twin whose layers can be hooked; `baseline`, `reference`: something to
compare with, one or many; `perturbation`: only outputs for changed inputs, so any model at all; `picture`: an input that is one."""
Measure = Literal["share", "slope", "score"]
"""What an attribution is: a share of the output, in its unit; a slope, the output's change per unit of the input; or a score
that only ranks."""
Promise = Literal["completeness"]
Family = Literal["gradient", "path", "reference", "noise", "hooks", "layer", "perturbation", "region"]
"""Which module of `service.explain.attribution` runs it."""


@dataclass(frozen=True, slots=True)
class Method:
    name: str
    title: str
    captum: str
    """Captum's class, dotted."""
    family: Family
    parameters: type[CommonParameters]
    paper: str
    rows: Callable[[Any], int]
    """About how many rows the model computes for one instance, from the validated parameters."""
    needs: frozenset[Need] = frozenset({"gradients"})
    promises: frozenset[Promise] = frozenset()
    arguments: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Parameters that go to Captum's `attribute` as they are, with its own name for each."""
    unsigned: Callable[[Any], bool] = lambda _: False
    """Whether the attributions, with these parameters, are magnitudes that say nothing of for and against."""
    measures: Callable[[Any], Measure] = lambda _: "share"

    @property
    def needs_twin(self) -> bool:
        return "gradients" in self.needs or "modules" in self.needs

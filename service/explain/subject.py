"""A model ready to be explained: its manifest, the served model, its twin, and what was found out about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

from service.explain.device import CPU, CPU_PASSES, Device
from service.explain.lane import Lane
from service.explain.passes import Passes
from service.explain.served import Served
from service.explain.status import TwinStatus
from service.explain.twin import Twin
from service.explain.twin.module import Segment
from service.manifest import Manifest

if TYPE_CHECKING:
    from service.explain.course import Course
    from service.explain.gradient_graph import GradientGraph

Arrays = Mapping[str, NDArray[Any]]
Form = Literal["folded", "faithful", "mixed"]
DEFAULT_MEMORY = 64 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    manifest: Manifest
    served: Served
    twin: Twin
    """Folded: for methods that address inputs only."""
    faithful: Twin
    """Every node a module: for hooks, layers and representations."""
    status: TwinStatus
    at: Mapping[str, str]
    """Attributed input to the tensor where its attribution is taken: itself, or the float tensor of a discrete input."""
    others: tuple[str, ...]
    """Graph inputs that the part behind those tensors takes beside them."""
    logits: Mapping[str, str]
    """Output that ends in its activation, to the tensor before it."""
    weights: frozenset[int]
    """Storages of the twin's parameters."""
    segments: dict[tuple[Form, tuple[str, ...]], Segment]
    chunk: int = CPU_PASSES[-1]
    """Rows of gradients at which a pass is fastest here."""
    row_bytes: dict[tuple[tuple[int, ...], ...], int] = field(default_factory=dict)
    """What autograd keeps of a row, by the shapes of attributed tensors and `others`, as far as seen."""
    baseline_outputs: dict[tuple[tuple[float, ...], tuple[tuple[int, ...], ...], str], float] = field(default_factory=dict)
    """F where the attributed tensors are filled with numbers, by these, the tensors' shapes and F, as far as seen."""
    passes: Passes = field(default_factory=lambda: Passes(Lane()))
    """Where explanations that run side by side have their rows computed."""
    mixed: Twin | None = None
    """Mixed precision, where that is faster here: for gradients of which it is checked how far they are off."""
    mixed_from: int = 1
    """Rows from which on it is, the check counted."""
    graph: GradientGraph | None = None
    """Of gradients, where that is faster here than the twin."""
    course: Course | None = None
    """How its gradients turn on the way from the baseline to typical instances."""
    reference: Arrays = field(default_factory=lambda: MappingProxyType({}))
    """The bundle's reference set, (R, ..) by input."""
    device: Device = CPU
    """Where its twin computes."""

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(output.name for output in self.manifest.outputs)

    def segment(self, outputs: Sequence[str], *, form: Form = "folded") -> Segment:
        """The twin from the attributed tensors and `others`, in this order, to these tensors."""
        key = (form, tuple(outputs))
        if key not in self.segments:
            twin = {"folded": self.twin, "faithful": self.faithful, "mixed": self.mixed}[form]
            assert twin is not None  # who asks for mixed precision has looked
            self.segments[key] = twin.segment((*self.at.values(), *self.others), tuple(outputs))
        return self.segments[key]


def attributed(subject: Subject, feeds: Arrays, ran: Arrays) -> list[Tensor]:
    """The tensors (N, ..) at which attributions are taken, of their own memory, for inputs `feeds` that gave `ran`."""
    return [torch.from_numpy((ran[tensor] if tensor != name else feeds[name]).copy()) for name, tensor in subject.at.items()]

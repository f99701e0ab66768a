"""A run through part of a graph: which steps, in which order, and when each value can be forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from service.explain.twin.graph import Node

Value = Any
"""A torch.Tensor; a list of them (an ONNX sequence); a numpy array of strings; None (an input left out)."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a step may refer to beside its inputs: the values so far (subgraphs read them) and the twin's modules."""

    values: Mapping[str, Value]
    modules: Mapping[str, nn.Module | None]
    place: Place | None = None
    """Where it is computed; None: where the values are."""


Compute = Callable[[Sequence[Value], Scope], tuple[Value, ...]]


@dataclass(frozen=True, slots=True)
class Step:
    """One node made computable. `compute` is None for an operator that neither torch nor the fallback has."""

    node: Node
    inputs: tuple[str, ...]
    """The names it takes values of; fewer than the node's where constants went into a module."""
    compute: Compute | None
    module: str | None = None
    differentiable: bool = True
    straight_through: bool = False
    """Whether its gradient passes a rounding as if there were none."""
    hides: bool = False
    """Whether a non-linearity in it is no module."""
    reason: str = ""
    """Why there is no computation, where the operator itself is known."""

    @property
    def reads(self) -> frozenset[str]:
        return (frozenset(self.inputs) | self.node.captures) - {""}


class Place(Protocol):
    """A device that a run computes on."""

    def given(self, step: Step, values: Sequence[Value]) -> Sequence[Value]:
        """The step's inputs, moved to where it takes them."""

    def entered(self, value: Value) -> Value:
        """An input of the run, where it begins."""

    def back(self, value: Value) -> Value:
        """A value on the host."""


@dataclass(frozen=True, slots=True)
class Program:
    """Steps from some tensors to others, in order; `last_use[i]` are the values that nothing after step i reads."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]
    last_use: tuple[tuple[str, ...], ...]
    constants: tuple[str, ...]

    @property
    def unsupported(self) -> tuple[Step, ...]:
        return tuple(s for s in self.steps if s.compute is None)

    def run(
        self,
        inputs: Sequence[Value],
        constants: Mapping[str, Value],
        modules: Mapping[str, nn.Module | None],
        place: Place | None = None,
    ) -> list[Value]:
        """The outputs' values; `inputs` in the order of `self.inputs`."""
        values: dict[str, Value] = {"": None}
        for name in self.constants:
            values[name] = constants[name]
        values.update(zip(self.inputs, inputs, strict=True))
        scope = Scope(values, modules, place)
        for step, forget in zip(self.steps, self.last_use, strict=True):
            assert step.compute is not None  # a program with unsupported steps is refused before it runs
            given: Sequence[Value] = [values[n] for n in step.inputs]
            results = step.compute(given if place is None else place.given(step, given), scope)
            values.update((name, value) for name, value in zip(step.node.outputs, results, strict=False) if name)
            for name in forget:
                values.pop(name, None)
        return [values[name] for name in self.outputs]


def plan(steps: Sequence[Step], inputs: Sequence[str], outputs: Sequence[str], sources: Iterable[str], constants: Iterable[str]) -> Program:
    """The program that computes `outputs` from `inputs`, walking back from the outputs and stopping at the inputs.

    `sources` are the graph's own inputs: those that are reached beside `inputs` are appended to the program's inputs.
    Raises KeyError for an output that no step makes.
    """
    given, graph_inputs, known = set(inputs), set(sources), set(constants)
    producer = {name: step for step in steps for name in step.node.outputs if name}
    needed: set[str] = set()
    chosen: set[str] = set()
    stack = [name for name in outputs if name not in given]
    while stack:
        name = stack.pop()
        if name in needed or name in given:
            continue
        needed.add(name)
        if name in graph_inputs or name in known:
            continue
        step = producer[name]
        chosen.add(step.node.name)
        stack.extend(step.reads)
    kept = tuple(step for step in steps if step.node.name in chosen)
    extra = tuple(name for name in sources if name in needed)
    used = tuple(
        dict.fromkeys(name for name in (*(n for s in kept for n in sorted(s.reads)), *outputs) if name in known and name not in given)
    )
    return Program((*inputs, *extra), tuple(outputs), kept, _last_uses(kept, outputs), used)


def _last_uses(steps: Sequence[Step], outputs: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    kept, seen = set(outputs), set(outputs)
    last: list[tuple[str, ...]] = []
    for step in reversed(steps):
        names = (step.reads | frozenset(step.node.outputs)) - {""}  # an output that nobody reads is forgotten at once
        last.append(tuple(sorted(names - seen - kept)))
        seen |= names
    return tuple(reversed(last))

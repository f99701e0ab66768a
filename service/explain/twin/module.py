"""`build`: from an ONNX model to its twin, a torch module that computes the same and that gradients pass through.

The graph's weighted operators and non-linearities become fresh, exact `torch.nn` modules of the twin under their node's
name; every other operator is a plain function. Captum hooks modules, and with a shared module, a subclass of an `nn`
class or a module where a function would do some of its methods are silently wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import onnx
import torch
from torch import nn

import service.explain.twin.operators  # noqa: F401 - fills the registry
from service.explain.twin.compile import Compiled, compile_graph
from service.explain.twin.dtypes import as_torch
from service.explain.twin.functions import inlined
from service.explain.twin.fused import taken_apart
from service.explain.twin.graph import Names, read
from service.explain.twin.program import Program, Step, Value, plan
from service.explain.twin.registry import OPERATORS


class UnsupportedOperators(Exception):
    """The part of the graph asked for holds operators that neither torch nor the fallback can compute."""

    def __init__(self, operators: Sequence[str]) -> None:
        super().__init__(f"no twin for the operators {', '.join(operators)}")
        self.operators = tuple(operators)


@dataclass(frozen=True, slots=True)
class Gap:
    """A node that is computed in numpy, with the graph's inputs whose gradient stops there."""

    node: str
    operator: str
    inputs: tuple[str, ...]


class Twin(nn.Module):
    """Computes a graph's outputs from its inputs: `twin(*inputs)` takes tensors or numpy arrays in the order of the
    graph's inputs (`input_names`) and returns the list of its outputs (`output_names`).

    Parameters don't require gradients: what is explained is the input.
    """

    def __init__(self, compiled: Compiled) -> None:
        super().__init__()
        self.compiled = compiled
        self._steps = compiled.steps
        self._sources = compiled.inputs
        self._buffer_by_constant: dict[str, str] = {}
        self._other_constants: dict[str, Value] = {}
        for name, module in compiled.modules.items():
            self.add_module(name, module)
        names = Names({*dir(self), *compiled.modules})
        for name, value in compiled.constants.items():
            if isinstance(value, torch.Tensor):
                self._buffer_by_constant[name] = names.legal(name, "constant")
                self.register_buffer(self._buffer_by_constant[name], value)
            else:
                self._other_constants[name] = value
        self._onnx_names = compiled.onnx_names
        self._program = self._plan(compiled.inputs, compiled.outputs, sources=())
        self.reused = compiled.reused
        """Modules in the bodies of loops: called more than once a pass, so not to be hooked."""
        self.requires_grad_(False)
        self.eval()

    @property
    def input_names(self) -> tuple[str, ...]:
        return self._program.inputs

    @property
    def output_names(self) -> tuple[str, ...]:
        return self._program.outputs

    @property
    def modules_by_node(self) -> Mapping[str, nn.Module]:
        """The modules by their node's name in the ONNX file (a legal stand-in where that is empty or doubled)."""
        return MappingProxyType({self._onnx_names[name]: module for name, module in self.named_children()})

    @property
    def unsupported(self) -> tuple[str, ...]:
        """All operators of the graph that can't be computed, each once; with the reason where a variant of a known one is."""
        return _operators(self._program.unsupported)

    @property
    def gradient_gaps(self) -> tuple[Gap, ...]:
        """The nodes that no gradient passes."""
        ancestors: dict[str, frozenset[str]] = {name: frozenset({name}) for name in self.input_names}
        gaps = []
        for step in self._program.steps:
            reached = frozenset().union(*(ancestors.get(n, frozenset()) for n in step.node.reads))
            ancestors |= dict.fromkeys(step.node.outputs, reached)
            if not step.differentiable:
                gaps.append(
                    Gap(step.node.onnx_name or step.node.name, step.node.operator, tuple(n for n in self.input_names if n in reached))
                )
        return tuple(gaps)

    @property
    def straight_through(self) -> tuple[str, ...]:
        """The operators that round, each once: their gradient is that of the same operator without its rounding."""
        return _operators(tuple(s for s in self._program.steps if s.straight_through))

    @property
    def hidden(self) -> tuple[str, ...]:
        """Nodes of fused operators with a non-linearity that no module shows: methods that hook these don't see it."""
        return tuple(s.node.onnx_name or s.node.name for s in self._program.steps if s.hides)

    def forward(self, *inputs: Any) -> list[Value]:
        return self.run_program(self._program, inputs)

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> Segment:
        """The part of the twin from some of the graph's tensors to others, sharing the twin's modules.

        The graph's inputs that are needed beside `inputs` are appended: read `Segment.input_names`. Raises KeyError for a
        tensor that the graph doesn't have.
        """
        return Segment(self, self._plan(inputs, outputs, self._sources))

    def cut(self, at: Mapping[str, str], outputs: Sequence[str] | None = None) -> Cut:
        """The twin in two parts, to run and differentiate from intermediate tensors: `at` maps an input to its tensor."""
        tensors = tuple(at.values())
        kept = tuple(name for name in self._sources if name not in at)
        head = self.segment((), tensors)
        tail = self.segment(tuple(at.get(name, name) for name in self._sources), outputs or self.output_names)
        return Cut(head, tail, tuple(n for n in tail.input_names if n not in tensors and n not in kept))

    def run_program(self, program: Program, inputs: Sequence[Any], modules: Mapping[str, nn.Module] | None = None) -> list[Value]:
        """The program's outputs; `modules` by name take the place of the twin's own."""
        if program.unsupported:
            raise UnsupportedOperators(_operators(program.unsupported))
        if len(inputs) != len(program.inputs):
            raise TypeError(f"expected {len(program.inputs)} inputs ({', '.join(program.inputs)}), got {len(inputs)}")
        constants = {name: self._buffers[buffer] for name, buffer in self._buffer_by_constant.items()} | self._other_constants
        given, found = [as_torch(i) for i in inputs], {**self._modules, **(modules or {})}
        place = self.compiled.place
        if place is None:
            return program.run(given, constants, found)
        return [place.back(value) for value in program.run([place.entered(value) for value in given], constants, found, place)]

    def _plan(self, inputs: Sequence[str], outputs: Sequence[str], sources: Sequence[str]) -> Program:
        extra = tuple(name for name in sources if name not in inputs)
        return plan(self._steps, inputs, outputs, extra, (*self._buffer_by_constant, *self._other_constants))


class Segment(nn.Module):
    """A part of a twin, called as the twin is."""

    def __init__(self, twin: Twin, program: Program) -> None:
        super().__init__()
        self.twin = twin
        self._program = program

    @property
    def program(self) -> Program:
        return self._program

    @property
    def input_names(self) -> tuple[str, ...]:
        return self._program.inputs

    @property
    def output_names(self) -> tuple[str, ...]:
        return self._program.outputs

    @property
    def unsupported(self) -> tuple[str, ...]:
        return _operators(self._program.unsupported)

    def forward(self, *inputs: Any) -> list[Value]:
        return self.twin.run_program(self._program, inputs)


@dataclass(frozen=True, slots=True)
class Cut:
    """`head` computes the intermediate tensors, `tail` the outputs from these and the graph's other inputs.

    `also` are the cut inputs that the tail reads beside their tensor (for their shape, or a mask).
    """

    head: Segment
    tail: Segment
    also: tuple[str, ...]


def build(model: onnx.ModelProto, *, numpy: bool = True) -> Twin:
    """The faithful twin: every node as it stands in the graph. Unsupported operators are listed in `Twin.unsupported`.

    With `numpy=False` also those that could only be computed in numpy, without a gradient. Raises BadGraph for a model
    that is none: a cycle, or a tensor that nothing makes.
    """
    spelled = inlined(taken_apart(model), OPERATORS.find)
    return Twin(compile_graph(read(spelled, Names(dir(nn.Module()))), numpy=numpy))


def _operators(steps: Sequence[Step]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"{s.node.operator} ({s.reason})" if s.reason else s.node.operator for s in steps))

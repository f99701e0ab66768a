"""Nodes to steps: finds each node's operator, folds what is constant, makes the modules."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from service.explain.twin import fallback
from service.explain.twin.dtypes import as_torch
from service.explain.twin.graph import Graph, Kind, Node
from service.explain.twin.program import Compute, Place, Program, Scope, Step, Value, plan
from service.explain.twin.registry import OPERATORS, Bound, Dynamic, Operator
from service.explain.twin.widen import widened

Evaluate = Callable[[Sequence[Value]], tuple[Value, ...]]
RANDOM = frozenset({"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"})


@dataclass(frozen=True, slots=True)
class Compiled:
    """All that a twin consists of."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]
    modules: Mapping[str, nn.Module]
    constants: Mapping[str, Value]
    onnx_names: Mapping[str, str]
    """Module name to the node's name in the file."""
    reused: frozenset[str]
    kinds: Mapping[str, Kind]
    """What is known of the outputs."""
    place: Place | None = None
    """The device that it lies on; None: the host."""


@dataclass(frozen=True, slots=True)
class Body:
    """A subgraph as a function: `body(inputs, scope)` gives its outputs; it reads the graph around it from `scope`."""

    program: Program
    constants: Mapping[str, Value]

    def __call__(self, inputs: Sequence[Value], scope: Scope) -> list[Value]:
        outer = [scope.values[name] for name in self.program.inputs[len(inputs) :]]
        return self.program.run([*inputs, *outer], self.constants, scope.modules, scope.place)


def compile_graph(graph: Graph, *, numpy: bool = True) -> Compiled:
    """`numpy=False` leaves what torch can't compute without a computation, as unsupported."""
    compiler = _Compiler(graph.opsets, graph.known, numpy)
    steps, constants = compiler.steps(graph)
    read = frozenset().union(*(s.reads for s in steps)) | set(graph.outputs)
    names = compiler.onnx_names
    uses = Counter(names.values())
    shown = {name: wanted if wanted and uses[wanted] == 1 else name for name, wanted in names.items()}
    kept = {name: value for name, value in constants.items() if name in read}
    kinds = {name: graph.known.get(name, Kind()) for name in graph.outputs}
    return Compiled(graph.inputs, graph.outputs, tuple(steps), compiler.modules, kept, shown, frozenset(compiler.reused), kinds)


class _Compiler:
    """Collects the modules of a graph and of the subgraphs in it."""

    def __init__(self, opsets: Mapping[str, int], known: Mapping[str, Kind], numpy: bool) -> None:
        self.opsets = opsets
        self.known = known
        self.numpy = numpy
        self.modules: dict[str, nn.Module] = {}
        self.onnx_names: dict[str, str] = {}
        self.reused: set[str] = set()

    def steps(self, graph: Graph, *, reused: bool = False) -> tuple[list[Step], dict[str, Value]]:
        """The steps that are left when all that is constant is computed, and the constants."""
        constants: dict[str, Value] = {"": None} | {name: as_torch(array) for name, array in graph.constants.items()}
        steps = []
        for node in graph.nodes:
            step: Step | None = self._step(node, graph.known, constants, reused)
            if step and not step.module and node.op_type not in RANDOM and step.compute and node.reads <= constants.keys():
                step = self._beforehand(step, constants)
            if step is not None:
                steps.append(step)
        return steps, constants

    def _beforehand(self, step: Step, constants: dict[str, Value]) -> Step | None:
        """Computes a step from constants to constants; what is left of it is nothing, or why it couldn't be done."""
        assert step.compute is not None  # an unsupported operator isn't computed beforehand
        try:
            with torch.no_grad():
                results = step.compute([constants[n] for n in step.inputs], Scope(constants, self.modules))
        except (RuntimeError, ValueError, IndexError, TypeError, MemoryError) as error:
            return Step(step.node, step.node.inputs, None, reason=_first_line(error))
        constants.update(zip(step.node.outputs, results, strict=False))
        constants[""] = None
        return None

    def _step(self, node: Node, known: Mapping[str, Kind], constants: Mapping[str, Value], reused: bool) -> Step:
        operator = OPERATORS.find(node.domain, node.op_type, self.opsets.get(node.domain, 1))
        attributes = {name: self._attribute(value, node) for name, value in node.attributes.items()}
        if operator is None:
            return _fallback(node, self.opsets, known) if self.numpy else Step(node, node.inputs, None)
        wanted = _wanted(operator, node, known)
        if (reason := _misfit(operator, node, {**attributes, **wanted})) is not None:
            return Step(node, node.inputs, None, reason=reason)
        # What is constant altogether is computed once, and needs no module.
        if operator.maker and not node.reads <= constants.keys():
            inputs = (constants[n] if n in constants else Dynamic(known.get(n, Kind()).rank) for n in node.inputs)
            try:
                bound = operator.maker(*inputs, **attributes, **wanted)
            except (NotImplementedError, RuntimeError, ValueError) as error:
                return Step(node, node.inputs, None, reason=_first_line(error))
            if bound is not None:
                return self._module(node, bound, reused)

        def otherwise() -> Evaluate | None:
            return fallback.evaluator(node, self.opsets, known) if self.numpy else None

        compute = _function(operator, node, {**attributes, **wanted}, known, otherwise)
        return Step(node, node.inputs, compute, straight_through=operator.straight_through, hides=operator.hides)

    def _module(self, node: Node, bound: Bound, reused: bool) -> Step:
        self.modules[node.name] = bound.module
        self.onnx_names[node.name] = node.onnx_name
        if reused:
            self.reused.add(node.name)
        return Step(node, tuple(node.inputs[i] for i in bound.takes if i < len(node.inputs)), _bound(bound, node.name), module=node.name)

    def _attribute(self, value: Any, node: Node) -> Any:
        if not isinstance(value, Graph):
            return value
        steps, constants = self.steps(value, reused=node.op_type in ("Loop", "Scan", "SequenceMap"))
        outer = sorted(node.captures)
        return Body(plan(steps, value.inputs, value.outputs, outer, constants), constants)


def _bound(bound: Bound, name: str) -> Compute:
    call = bound.call  # the module itself is looked up in the twin, which may have been copied or moved

    def compute(inputs: Sequence[Value], scope: Scope) -> tuple[Value, ...]:
        return _tuple(call(scope.modules[name], *inputs))

    return compute


def _wanted(operator: Operator[..., Any], node: Node, known: Mapping[str, Kind]) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    if "outputs" in operator.wants:
        wanted["outputs"] = len(node.outputs)
    if "elements" in operator.wants:
        wanted["elements"] = tuple(known.get(name, Kind()).element for name in node.inputs)
    return wanted


def _function(
    operator: Operator[..., Any],
    node: Node,
    attributes: Mapping[str, Any],
    known: Mapping[str, Kind],
    otherwise: Callable[[], Evaluate | None],
) -> Compute:
    call = functools.partial(operator.function, **attributes)
    if "scope" in operator.wants:
        return lambda inputs, scope: _tuple(call(*inputs, scope=scope))
    makes = tuple(known.get(name, Kind()).element for name in node.outputs)

    def compute(inputs: Sequence[Value], _: Scope) -> tuple[Value, ...]:
        try:
            return _tuple(call(*inputs))
        except (NotImplementedError, RuntimeError, TypeError, AttributeError) as error:
            wider = widened(call, inputs, makes, error)
            if wider is not None:
                return wider
            evaluate = otherwise() if _is_for_numpy(inputs, error) else None
            if evaluate is None or any(isinstance(i, torch.Tensor) and i.requires_grad for i in inputs):
                raise  # a gradient must never be lost silently
            return evaluate(inputs)

    return compute


def _misfit(operator: Operator[..., Any], node: Node, attributes: Mapping[str, Any]) -> str | None:
    """What attributes the operator doesn't know, or which inputs it lacks or has no place for."""
    if operator.signature is None:
        return f"it has the attributes {', '.join(attributes)}" if attributes else None
    scope = {"scope": None} if "scope" in operator.wants else {}
    try:
        operator.signature.bind(*node.inputs, **attributes, **scope)
    except TypeError as error:
        return str(error)
    return None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def _is_for_numpy(inputs: Sequence[Value], error: Exception) -> bool:
    """What torch has no form for: a variant that its function refuses, a type without a kernel, strings."""
    return isinstance(error, NotImplementedError) or any(isinstance(i, np.ndarray) and i.dtype.kind in "OUS" for i in inputs)


def _fallback(node: Node, opsets: Mapping[str, int], known: Mapping[str, Kind]) -> Step:
    evaluate = fallback.evaluator(node, opsets, known)
    compute = None if evaluate is None else lambda inputs, _: evaluate(inputs)
    return Step(node, node.inputs, compute, differentiable=False)


def _tuple(result: Any) -> tuple[Value, ...]:
    return result if isinstance(result, tuple) else (result,)

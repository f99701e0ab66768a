"""F as a module that may be hooked: its children are fresh copies of the layers between the attributed tensors and F.

What Captum hangs on them (hooks, rules, changed weights) goes away with them, however an attribution ends, and the twin
never knows of it. Each layer gets its input as a tensor of its own: a hook on a tensor that others read too would act on
their gradients as well.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor, nn

from service.errors import NotExplainable
from service.explain.attribution.problem import Problem
from service.explain.carry import Use, obstacle, uses
from service.explain.case import Case
from service.explain.methods.method import Method
from service.explain.scalar import Scalar
from service.explain.twin.program import Compute, Scope, Step, Value

LayerFor = Callable[[Use], "FunctionLayer | None"]
"""The layer that stands for a step which is a function; None: it stays one."""
Call = Callable[[tuple[Tensor, ...]], Tensor]


EXPORTED: Final[Mapping[str, Any]] = MappingProxyType({"layers_of": "the exported graph"})
"""For an answer's `parameters`: an exporter may have folded a normalisation into the layer before it, and what is hooked is what
the file holds."""


class FunctionLayer(nn.Module):
    """An operator without a module as a layer. Its inputs are those that depend on the attributed tensors."""

    call: Call

    def forward(self, *active: Tensor) -> Tensor:
        return self.call(active)


class Score(nn.Module):
    """The last layer: from the explained tensor's values (N, ..) to F (N,)."""

    def __init__(self, scalar: Scalar) -> None:
        super().__init__()
        self.scalar = scalar

    def forward(self, values: Tensor) -> Tensor:
        return self.scalar.of(values)


class Hooked(nn.Module):
    """Called as `Problem.reordered`: the active tensors (N, ..), then the arguments; gives F (N,).

    `dtype`: what the layers compute in, where that isn't what the graph says. Raises NotExplainable where `method` can't be had
    of this F.
    """

    def __init__(
        self, case: Case, problem: Problem, method: Method, layer_for: LayerFor = lambda _: None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        segment = case.subject.segment((case.scalar.tensor,), form="faithful")
        self.path = uses(segment, tuple(case.subject.at.values()))
        reason = obstacle(method.name, self.path) or _activation_obstacle(method, case.scalar)
        if reason:
            raise NotExplainable(f"{method.title} can't explain this output: {reason}")
        layers: dict[str, nn.Module] = {}
        steps: dict[str, Step] = {}
        for use in self.path:
            name = use.step.node.name
            layer = fresh(use.module) if use.module is not None else layer_for(use)
            if layer is not None:
                layers[name] = layer if dtype is None else layer.to(dtype)
                steps[name] = replace(use.step, compute=_through(layer, use, dtype))
        program = replace(segment.program, steps=tuple(steps.get(s.node.name, s) for s in segment.program.steps))
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._ends = _ends(self, case.scalar)
        self._run = functools.partial(segment.twin.run_program, program, modules=layers)
        self._check = case.token.check
        self._problem = replace(problem, forward=self._f)

    def forward(self, *tensors: Tensor) -> Tensor:
        return self._problem.reordered(*tensors)

    def _f(self, *tensors: Tensor) -> Tensor:
        self._check()
        (values,) = self._run(tensors)
        for name in self._ends:
            values = self._modules[name](values)  # type: ignore[misc]  # these are modules
        return values  # type: ignore[no-any-return]

    @property
    def layers(self) -> Mapping[str, nn.Module]:
        """By the node's name in the file, in the graph's order; those that stand for functions and the end left out."""
        found = {use.step.node.name: use.step.node.onnx_name for use in self.path if use.module is not None}
        names = list(found.values())
        return {shown if shown and names.count(shown) == 1 else name: self._modules[name] for name, shown in found.items()}  # type: ignore[misc]


def fresh(module: nn.Module) -> nn.Module:
    """The same layer, weights shared, with parameters and hooks of its own."""
    twin = copy.copy(module)
    twin.__dict__ = {name: copy.copy(value) if isinstance(value, dict) else value for name, value in module.__dict__.items()}
    for name, parameter in module._parameters.items():
        twin._parameters[name] = None if parameter is None else nn.Parameter(parameter.data, requires_grad=False)
    return twin


def _through(layer: nn.Module, use: Use, dtype: torch.dtype | None) -> Compute:
    """The step's computation with this layer, whose inputs nobody else reads."""
    inner = use.step.compute
    assert inner is not None  # a segment with unsupported steps has no twin to be hooked

    def compute(inputs: Sequence[Value], scope: Scope) -> tuple[Value, ...]:
        own: list[Any] = [_as(dtype, value) for value in inputs]
        for place in use.active:
            own[place] = own[place].clone()
        if not isinstance(layer, FunctionLayer):
            return inner(own, scope)

        def call(active: tuple[Tensor, ...]) -> Tensor:
            for place, tensor in zip(use.active, active, strict=True):
                own[place] = tensor
            return inner(own, scope)[0]  # type: ignore[no-any-return]

        layer.call = call
        return (layer(*(own[place] for place in use.active)),)

    return compute


def _as(dtype: torch.dtype | None, value: Value) -> Value:
    """A float tensor in `dtype`: constants and casts of the graph have their own."""
    return value.to(dtype) if dtype is not None and isinstance(value, Tensor) and value.is_floating_point() else value


def _ends(hooked: nn.Module, scalar: Scalar) -> tuple[str, ...]:
    """Adds what comes behind the explained tensor: its activation where a probability is explained, and the sum of the target."""
    ends: list[tuple[str, nn.Module]] = []
    if scalar.activation != "none":
        ends.append(("explained activation", nn.Sigmoid() if scalar.activation == "sigmoid" else nn.Softmax(scalar.axis)))
    ends.append(("explained score", Score(replace(scalar, activation="none"))))
    for name, module in ends:
        hooked.add_module(name, module)
    return tuple(name for name, _ in ends)


def _activation_obstacle(method: Method, scalar: Scalar) -> str:
    if scalar.activation == "none" or method.name not in ("lrp", "deep_lift", "deep_lift_shap"):
        return ""
    if scalar.activation == "sigmoid" and method.name != "lrp":
        return ""
    return f"it has no rule for {scalar.activation}, ask for the logit (parameter 'explained')"

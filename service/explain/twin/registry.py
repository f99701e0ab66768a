"""The table of operators: which torch function computes an ONNX operator, by domain, name and opset.

An operator is a function named as in the ONNX specification: tensor inputs positional, attributes as keyword arguments
with the specification's names and defaults, so that calling it with an attribute that it doesn't know is an error at
once. `Softmax_13` is `Softmax` as of opset 13; a plain name holds from opset 7 on, the oldest that is served.
An operator that has weights or is a non-linearity has a *module form* beside it: a maker that returns a fresh `torch.nn`
module where the weights are constants, since layer methods hook modules.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, NamedTuple, ParamSpec, TypeVar

import torch
from torch import nn

Function = Callable[..., Any]
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Dynamic:
    """Stands in a module maker's arguments for an input that is computed at run time."""

    rank: int | None = None
    """Its number of axes, where the file says or implies it."""


Constant = torch.Tensor | Dynamic | None
"""What a module maker sees of an input: its value where that is a constant, a Dynamic, or None where it is left out."""


def are_constant(*inputs: Constant) -> bool:
    return not any(isinstance(i, Dynamic) for i in inputs)


def _apply(module: nn.Module, *inputs: Any) -> Any:
    return module(*inputs)


@dataclass(frozen=True, slots=True)
class Bound:
    """A node as a module: `call(module, *inputs)` computes it from those of the node's inputs whose positions are in
    `takes`; the others, constants as a rule, live in the module."""

    module: nn.Module
    call: Function = _apply
    takes: tuple[int, ...] = (0,)


class Key(NamedTuple):
    domain: str
    op_type: str
    since: int


@dataclass
class Operator(Generic[Arguments, Result]):
    """One entry of the table; calling it calls the function.

    `wants` names what the function asks for beside inputs and attributes: `outputs` (how many outputs the node has),
    `scope` (the values computed so far, which a subgraph may refer to), `elements` (the inputs' TensorProto.DataTypes, 0
    where unknown: torch holds ONNX's types below eight bits in wider ones).
    """

    key: Key
    function: Callable[Arguments, Result]
    wants: frozenset[str]
    maker: Callable[..., Bound | None] | None = None
    straight_through: bool = False
    """Whether it rounds, and lets the gradient pass as if it didn't (Bengio et al. 2013, arXiv:1308.3432)."""
    signature: inspect.Signature | None = None
    """None of a function that is written in C."""
    hides: bool = False
    """Whether it is several operators in one, with a non-linearity among them that methods can't hook."""

    def __call__(self, *inputs: Arguments.args, **attributes: Arguments.kwargs) -> Result:
        return self.function(*inputs, **attributes)


@dataclass(frozen=True, slots=True)
class Registry:
    """Operators by name, each name's versions in one mapping."""

    entries: dict[tuple[str, str], dict[int, Operator[..., Any]]] = field(default_factory=dict)

    def add(self, operator: Operator[..., Any]) -> None:
        versions = self.entries.setdefault((operator.key.domain, operator.key.op_type), {})
        if operator.key.since in versions:
            raise ValueError(f"operator {operator.key} is registered twice")
        versions[operator.key.since] = operator

    def find(self, domain: str, op_type: str, opset: int) -> Operator[..., Any] | None:
        """The operator as of the greatest version that is not above `opset`, or None."""
        versions: Mapping[int, Operator[..., Any]] = self.entries.get((domain, op_type), {})
        since = max((v for v in versions if v <= opset), default=None)
        return None if since is None else versions[since]


OPERATORS: Final = Registry()
"""Filled by the decorators below when `service.explain.twin.operators` is imported, and never after."""


def _split(name: str) -> tuple[str, int]:
    op_type, _, since = name.partition("_")
    return op_type, int(since) if since else 1


def operator(function: Callable[Arguments, Result]) -> Operator[Arguments, Result]:
    """Register a function of the default domain under its own name."""
    return _register("", function)


def in_domain(domain: str) -> Callable[[Callable[Arguments, Result]], Operator[Arguments, Result]]:
    """Register a function under its own name in another domain, as `com.microsoft`."""
    return lambda function: _register(domain, function)


def _register(domain: str, function: Callable[Arguments, Result]) -> Operator[Arguments, Result]:
    signature = inspect.signature(function)
    wants = frozenset({"outputs", "scope", "elements"} & set(signature.parameters))
    entry = Operator(Key(domain, *_split(function.__name__)), function, wants, signature=signature)
    OPERATORS.add(entry)
    return entry


def straight_through(entry: Operator[Arguments, Result]) -> Operator[Arguments, Result]:
    """Mark a registered operator as one whose gradient is that of the operator without its rounding."""
    entry.straight_through = True
    return entry


def hides(entry: Operator[Arguments, Result]) -> Operator[Arguments, Result]:
    """Mark a registered operator as one that holds a non-linearity which no module shows."""
    entry.hides = True
    return entry


def named(name: str, function: Any, domain: str = "") -> Operator[..., Any]:
    """Register a function that has no ONNX name of its own, as `torch.sin`."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        signature = None
    entry: Operator[..., Any] = Operator(Key(domain, *_split(name)), function, frozenset(), signature=signature)
    OPERATORS.add(entry)
    return entry


def module_form(*operators: Operator[..., Any]) -> Callable[[Callable[..., Bound | None]], Callable[..., Bound | None]]:
    """Give operators a maker, called as the function is, with a Dynamic in place of what isn't constant.

    It returns None where this node has no module form; the node is then the plain function.
    """

    def register(maker: Callable[..., Bound | None]) -> Callable[..., Bound | None]:
        for entry in operators:
            if entry.maker is not None:
                raise ValueError(f"operator {entry.key} has two module forms")
            entry.maker = maker
        return maker

    return register

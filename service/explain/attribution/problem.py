"""A case as the methods by gradients see it: tensors where attributions are taken, and F around them."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.errors import NotExplainable
from service.explain.case import Case, Tensors
from service.explain.methods.method import Method
from service.explain.once import once

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Problem:
    """F as a function of the *active* tensors, those that a gradient reaches; the others' attributions are zero."""

    forward: Callable[..., Tensor]
    """(attributed tensors (N, ..), then `others` (N, ..)) to F (N,)."""
    point: Tensors
    """(1, ..) each."""
    others: Tensors
    passive: tuple[int, ...]
    """Places in `point` of tensors that no gradient reaches."""
    names: tuple[str, ...]
    """The inputs that `point` stands for."""
    shapes: tuple[tuple[int, ...], ...]
    """Of those inputs, without the batch axis."""

    @classmethod
    def of(cls, case: Case) -> Problem:
        """Raises NotExplainable where no gradient reaches anything."""
        at = case.subject.at
        passive = tuple(i for i, name in enumerate(at) if name in case.subject.status.no_gradient)
        if len(passive) == len(at):
            raise NotExplainable("no gradient of the model's output reaches any of its inputs")
        shapes = tuple(case.feeds[name].shape[1:] for name in at)
        return cls(case.forward, case.point, case.others, passive, tuple(at), shapes)

    @once
    def active(self) -> tuple[int, ...]:
        return tuple(i for i in range(len(self.point)) if i not in self.passive)

    def of_active(self, tensors: Tensors) -> Tensors:
        return tuple(tensors[i] for i in self.active)

    @property
    def leaves(self) -> Tensors:
        """The active tensors (1, ..), of which gradients can be asked."""
        return tuple(t.detach().requires_grad_() for t in self.of_active(self.point))

    @property
    def arguments(self) -> Tensors | None:
        """What Captum hands on beside the active tensors; it wants None for nothing."""
        return (*(self.point[i] for i in self.passive), *self.others) or None

    def reordered(self, *tensors: Tensor) -> Tensor:
        """`forward` for the active tensors, then `arguments`, as Captum calls it."""
        ordered = list(tensors)
        for place, tensor in zip((*self.active, *self.passive), tensors, strict=False):
            ordered[place] = tensor
        return self.forward(*ordered)

    def attributions(self, active: Tensors) -> dict[str, Array]:
        """Attributions (..) of every input from those of the active tensors (without batch axis), one number an element of
        the input: a token's or class's is summed over what its tensor has beyond it."""
        every = {name: np.zeros(shape, np.float32) for name, shape in zip(self.names, self.shapes, strict=True)}
        for place, tensor in zip(self.active, active, strict=True):
            every[self.names[place]] = _as_input(tensor.detach().numpy(), self.shapes[place])
        return every


def captum_class(method: Method) -> Any:
    """Captum's class of a method, by its dotted name."""
    module, _, name = method.captum.rpartition(".")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Captum's own imports
        return getattr(importlib.import_module(module), name)


def arguments_of(method: Method, parameters: Any) -> dict[str, Any]:
    """The parameters that go to Captum's `attribute` as they are, by its own names."""
    return {theirs: getattr(parameters, own) for own, theirs in method.arguments.items()}


def _as_input(attributions: Array, shape: tuple[int, ...]) -> Array:
    if attributions.ndim > len(shape):
        attributions = attributions.sum(tuple(range(len(shape), attributions.ndim)))
    return np.asarray(attributions, np.float32)


def first_rows(tensors: Tensors | Tensor) -> Tensors:
    """Captum's answer for one row, without its batch axis."""
    return tuple(t[0] for t in (tensors if isinstance(tensors, tuple) else (tensors,)))


def expanded(tensors: Tensors | None, rows: int) -> Tensors | None:
    """Tensors (1, ..) repeated to (rows, ..) without a copy."""
    return tensors and tuple(t.expand(rows, *t.shape[1:]) for t in tensors)


def without_noise(call: Callable[[], Any]) -> Any:
    """What `call` gives, without the warnings that Captum prints on every use of hooks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.enable_grad():
            return call()

"""`once`: a property that is computed when first asked for, and kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

Value = TypeVar("Value")


class once(Generic[Value]):  # noqa: N801  # read as a decorator
    """As functools.cached_property, without its lock: up to Python 3.11 that is one for all instances of a class, held while a
    value is computed, so that explanations side by side would wait for each other, and for ever where the computing waits
    for its turn. An instance belongs to one thread."""

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> once[Value]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Value: ...
    def __get__(self, instance: object | None, owner: type) -> Value | once[Value]:
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._compute(instance)  # found before this descriptor from now on
        return value

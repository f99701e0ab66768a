"""The one table of all methods, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from service.errors import UnknownChoice
from service.explain.methods import gradient, hooks, layer, noise, path, perturbation, reference, region
from service.explain.methods.method import Method

DEFAULT: Final = "integrated_gradients"
FAMILIES: Final = (path, gradient, noise, hooks, layer, reference, perturbation, region)
METHODS: Final[Mapping[str, Method]] = MappingProxyType({method.name: method for family in FAMILIES for method in family.ENTRIES})


def find(name: str) -> Method:
    """The method of that name. Raises UnknownChoice."""
    if name not in METHODS:
        raise UnknownChoice("method", name, METHODS)
    return METHODS[name]

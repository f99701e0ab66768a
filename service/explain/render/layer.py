"""One method's attributions of one input, ready to be drawn: what every renderer takes one or several of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from service.explain.render.colormap import SIGNED, Scale

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """`attributions` has the input's shape; `colours` is the scale that its values are drawn on."""

    attributions: Array
    colours: Scale = SIGNED
    method: str = ""

    @property
    def title(self) -> str:
        return self.method.replace("_", " ")


def scales(layers: tuple[Layer, ...]) -> tuple[Scale, ...]:
    """Each scale that the layers use, once: a legend for each."""
    return tuple({id(layer.colours): layer.colours for layer in layers}.values())

"""A layer of a served graph, as `GET /layers` lists it. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.errors import UnknownChoice

Kind = Literal[
    "convolution", "linear", "recurrent", "attention", "embedding", "normalisation", "activation", "pooling", "other"
]  # fmt: skip


class Layer(BaseModel):
    """One node of the graph that has weights, or is a non-linearity or a pooling."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="the node's name; what the parameter 'layer' takes")
    operator: str
    kind: Kind
    output: str = Field(description="the tensor that it makes")
    shape: tuple[int | None, ...] | None = Field(description="of that tensor on a trial run; null is the batch axis. Null: not measured")
    parameters: int = Field(description="how many numbers it has learned")
    spatial: bool = Field(description="whether its channels are maps (batch, channels, height, width) or traces (batch, channels, time)")
    attributable: bool = Field(description="whether :explain-layer can address it")
    grad_cam: bool = Field(description="whether Grad-CAM can")
    note: str = Field(default="", description="why it can't be addressed, in words")

    @property
    def batch_axis(self) -> int:
        """Where the rows are; 0 where no trial told."""
        return self.shape.index(None) if self.shape and None in self.shape else 0

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Of a row's tensor, without the batch axis; empty where it wasn't measured."""
        return tuple(size for size in self.shape or () if size is not None)

    @property
    def unit_axis(self) -> int:
        """The axis of a row's tensor whose entries are units: channels of maps, else the last."""
        return 0 if self.spatial else -1

    @property
    def units(self) -> int:
        return self.row_shape[self.unit_axis] if self.row_shape else 0


@dataclass(frozen=True, slots=True)
class Catalog:
    """The layers of a model, in the order in which they compute."""

    layers: tuple[Layer, ...]
    reason: str = ""
    """Why none can be attributed to; empty where some can."""

    def named(self, name: str) -> Layer:
        """Raises UnknownChoice, which lists what exists."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise UnknownChoice("layer", name, [layer.name for layer in self.layers])


def first(layers: Sequence[Layer], *wishes: str) -> Layer | None:
    """The first layer that fits the first wish that any fits: `spatial`, a kind, `spatial activation`, or `any`."""
    for wish in wishes:
        for layer in layers:
            if all(word == "any" or (layer.spatial if word == "spatial" else layer.kind == word) for word in wish.split()):
                return layer
    return None

"""The parameters that methods share, as pydantic models: their JSON Schema is what `/methods` shows."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _from_json(value: Any) -> Any:
    """Lists and objects come as JSON text in query strings and in V2 parameters; true and false are no numbers."""
    if isinstance(value, bool):
        raise ValueError("expected a name, a number, a list or an object")
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"expected JSON: {error}") from None
    return value


class Region(BaseModel):
    """A class summed over a region of the output, or (without `index`) every channel of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: int | str | None = None
    region: tuple[int, int, int, int] | None = Field(default=None, description="x0, y0, x1, y1 in pixels of the output, half-open")


TargetSpec = Annotated[int | str | list[int] | Region | None, BeforeValidator(_from_json)]
BaselineSpec = Annotated[float | str | list[Any] | dict[str, Any] | None, BeforeValidator(_from_json)]
ReferenceSpec = Annotated[list[Any] | None, BeforeValidator(_from_json)]


class CommonParameters(BaseModel):
    """What every method takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: TargetSpec = Field(default=None, description="label, index, list of indices, or {index, region}; default: what was predicted")
    targets: Annotated[list[TargetSpec] | None, BeforeValidator(_from_json)] = Field(default=None, description="one target per instance")
    output: str | None = Field(default=None, description="name of the output to explain; default: the first")
    explained: Literal["logit", "probability", "value"] | None = Field(default=None, description="default: the manifest's")
    seed: int = Field(default=0, ge=0, lt=2**63)
    timeout: float | None = Field(default=None, gt=0, description="seconds")
    coordinates: Literal["model", "sent"] = Field(default="model", description="whose pixels an image's attributions refer to")
    top_k: int = Field(default=5, ge=1)
    quality: bool = Field(default=False, description="also the figures that say how far to trust the explanation, and a verdict in words")

    @model_validator(mode="after")
    def _one_kind_of_target(self) -> CommonParameters:
        if self.target is not None and self.targets is not None:
            raise ValueError("'target' and 'targets' exclude each other")
        return self


class BaselineParameters(CommonParameters):
    """Of a method that compares the instance with something."""

    baseline: BaselineSpec = Field(
        default=None,
        description="zero, mean, blur, noise, uniform, token, missing, a number, an instance, or an object of these by input;"
        " default: the manifest's",
    )


class ReferenceParameters(CommonParameters):
    """Of a method that compares the instance with many typical ones."""

    reference: ReferenceSpec = Field(
        default=None, description="a list of instances; default: the reference set of the model's bundle, where it has one"
    )

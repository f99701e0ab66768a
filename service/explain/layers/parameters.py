"""The parameters of the layer operations, as pydantic models: what exists, with its limits. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from service.errors import BadParameter
from service.explain.methods.parameters import BaselineParameters

MOST_UNITS = 64
"""Of one request."""


def _indices(value: Any) -> Any:
    """A number, a list, JSON text of a list, or text as `0,3,8-11`; labels stay as they are."""
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            try:
                return orjson.loads(value)
            except orjson.JSONDecodeError as error:
                raise ValueError(f"expected a JSON list: {error}") from None
        return [number for part in value.split(",") for number in _span(part.strip())]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


def _span(part: str) -> list[int | str]:
    low, dash, high = part.partition("-")
    if dash and low.isdecimal() and high.isdecimal():
        if not 0 <= int(high) - int(low) < 10_000:
            raise ValueError(f"{part!r} is no span of indices")
        return list(range(int(low), int(high) + 1))
    return [part]


Units = Annotated[list[int | str] | None, BeforeValidator(_indices)]
Channels = Annotated[list[Annotated[int, Field(ge=0)]] | None, BeforeValidator(_indices)]


class Parameters(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: str | None = Field(default=None, description="name of a layer (GET /layers); default: the most telling one")
    timeout: float | None = Field(default=None, gt=0, description="seconds")


class FilterParameters(Parameters):
    channels: Channels = Field(default=None, description="only these filters: 0,3,8-11 or a list")


class ActivationParameters(Parameters):
    channels: Channels = Field(default=None, description="only these channels or units: 0,3,8-11 or a list")


class LayerAttributionParameters(BaselineParameters):
    """Of `:explain-layer`."""

    layer: str | None = Field(default=None, description="name of a layer (GET /layers); default: the last spatial activation")
    method: Literal["layer_conductance", "internal_influence", "layer_gradient_x_activation", "layer_grad_cam"] = "layer_conductance"
    channels: Channels = Field(default=None, description="only these channels or units: 0,3,8-11 or a list")
    tolerance: float | None = Field(default=None, gt=0, lt=1, description="completeness error that layer_conductance is to reach; 0.01")
    steps: int | None = Field(default=None, ge=2, description="a fixed number of Gauss-Legendre nodes; excludes 'tolerance'")
    max_steps: int = Field(default=256, ge=16, description="where 'tolerance' gives up")

    @model_validator(mode="after")
    def _tolerance_or_steps(self) -> LayerAttributionParameters:
        if self.steps is not None and self.tolerance is not None:
            raise ValueError("'steps' and 'tolerance' exclude each other")
        return self


class VisualiseParameters(Parameters):
    unit: Units = Field(default=None, description="unit, channel or class (label or index), several as 0,3,8-11; default: the first ten")
    objective: Literal["activation", "contrast"] | None = Field(
        default=None, description="the unit's mean activation, or its lead over the layer's other units; default: contrast for classes"
    )
    steps: int = Field(default=128, ge=1, description="of gradient ascent")
    copies: int = Field(default=4, ge=1, le=32, description="randomly moved copies of the picture a step looks at")
    smoothness: float = Field(default=2.0, ge=0, description="weight of the total variation")
    sparseness: float = Field(default=4.0, ge=0, description="weight of the mean distance from the baseline")
    parametrisation: Literal["fourier", "pixel"] = "fourier"
    seed: int = Field(default=0, ge=0, lt=2**63)


Model = TypeVar("Model", bound=BaseModel)


def check(model: type[Model], sent: Mapping[str, Any]) -> Model:
    """The parameters as that model. Raises BadParameter naming the parameter, what was sent and what exists."""
    try:
        return model.model_validate({name: value for name, value in sent.items() if value is not None})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = str(problem["loc"][0]) if problem["loc"] else ""
        if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
            raise BadParameter(f"unknown parameter {name!r}; there are: {', '.join(model.model_fields)}") from None
        reason = problem["msg"].removeprefix("Value error, ")
        raise BadParameter(f"parameter {name!r}: {reason}, got {problem['input']!r}"[:500] if name else reason) from None

"""Bodies of the routes about layers, as pydantic models: the OpenAPI entries come from these, and a test holds live answers to them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from service.api.schemas import Body, Signed, Target
from service.explain.layers.layer import Layer


class Layers(Body):
    reason: str = Field(description="why no layer can be attributed to; empty where some can")
    layers: list[Layer]


class Filters(Body):
    layer: Layer
    axes: list[str] = Field(description="what each axis of the values is")
    values: list[Any]


class Activation(Body):
    values: Any = Field(description="the layer's tensor for the instance, without the batch axis")


class Activations(Signed):
    activations: list[Activation] = Field(description="one an instance")
    layer: Layer
    channels: list[int] | None
    computed_by: Literal["served model", "twin"]


class LayerExplanation(Body):
    method: str
    target: Target
    explained: Literal["logit", "probability", "value"]
    attributions: Any = Field(description="in the layer's shape without the batch axis; null where there is none to trust")
    instance_output: float
    baseline_output: float | None
    convergence_delta: float | None
    completeness_error: float | None
    converged: bool
    parity_error: float = Field(description="of the output and of the layer's own tensor, twin against served model")
    steps: int
    parameters: dict[str, Any]
    warnings: list[str]
    seconds: float


class LayerExplanations(Signed):
    explanations: list[LayerExplanation] = Field(description="one an instance")
    layer: Layer
    channels: list[int] | None


class Visualisation(Body):
    unit: int
    label: str | None = None
    values: list[Any] = Field(description="the input that excites the unit, as the model takes it")
    b64: str | None = Field(default=None, description="it, or what a generative model makes of it, as a picture")
    media_type: str | None = None
    activation: float = Field(description="reached in the served model: the unit's mean over places")
    reference_activation: float | None = Field(description="the most that a real instance reaches")
    parity_error: float
    seconds: float


class Visualisations(Signed):
    visualisations: list[Visualisation] = Field(description="one a unit")
    layer: Layer
    input: str = Field(description="the input that was drawn")
    parameters: dict[str, Any]
    reference_instances: int

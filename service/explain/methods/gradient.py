"""Methods by plain gradients of the inputs."""

from __future__ import annotations

from types import MappingProxyType

from pydantic import Field

from service.explain.methods.method import Method
from service.explain.methods.parameters import CommonParameters


class SaliencyParameters(CommonParameters):
    absolute: bool = Field(default=True, description="the gradient's magnitude instead of the gradient")


ENTRIES = (
    Method(
        name="saliency",
        title="Saliency (gradient)",
        captum="captum.attr.Saliency",
        family="gradient",
        parameters=SaliencyParameters,
        paper="https://arxiv.org/abs/1312.6034",
        rows=lambda _: 1,
        arguments=MappingProxyType({"absolute": "abs"}),
        unsigned=lambda p: p.absolute,
        measures=lambda _: "slope",
    ),
    Method(
        name="input_x_gradient",
        title="Input times gradient",
        captum="captum.attr.InputXGradient",
        family="gradient",
        parameters=CommonParameters,
        paper="https://arxiv.org/abs/1605.01713",
        rows=lambda _: 1,
    ),
)

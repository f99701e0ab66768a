"""Methods by the activations of a layer, drawn on the input."""

from __future__ import annotations

from pydantic import Field

from service.explain.methods.method import Method
from service.explain.methods.parameters import CommonParameters


class LayerParameters(CommonParameters):
    layer: str | None = Field(default=None, description="the graph's node; default: the last convolution with more than one position")


class GradCamParameters(LayerParameters):
    relu: bool = Field(default=True, description="only what speaks for the target, as in the paper")


ENTRIES = (
    Method(
        name="grad_cam",
        title="Grad-CAM",
        captum="captum.attr.LayerGradCam",
        family="layer",
        parameters=GradCamParameters,
        paper="https://arxiv.org/abs/1610.02391",
        rows=lambda _: 1,
        needs=frozenset({"gradients", "modules"}),
        unsigned=lambda p: p.relu,
        measures=lambda _: "score",
    ),
    Method(
        name="guided_grad_cam",
        title="Guided Grad-CAM",
        captum="captum.attr.GuidedGradCam",
        family="layer",
        parameters=LayerParameters,
        paper="https://arxiv.org/abs/1610.02391",
        rows=lambda _: 2,
        needs=frozenset({"gradients", "modules"}),
        measures=lambda _: "score",
    ),
)

"""Methods that hook the model's layers and change what passes them backwards."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.explain.methods.method import Method
from service.explain.methods.parameters import BaselineParameters, CommonParameters


class LrpParameters(CommonParameters):
    rule: Literal["epsilon", "gamma", "alpha1_beta0"] = Field(
        default="epsilon",
        description="of linear layers and convolutions; gamma and alpha1_beta0 favour what speaks for the output",
    )
    epsilon: float = Field(default=1e-9, gt=0, le=1, description="absorbs relevance where a layer's output is small")
    gamma: float = Field(default=0.25, gt=0, le=100, description="how much rule 'gamma' raises positive weights")


ENTRIES = (
    Method(
        name="guided_backprop",
        title="Guided backpropagation",
        captum="captum.attr.GuidedBackprop",
        family="hooks",
        parameters=CommonParameters,
        paper="https://arxiv.org/abs/1412.6806",
        rows=lambda _: 1,
        needs=frozenset({"gradients", "modules"}),
        measures=lambda _: "slope",
    ),
    Method(
        name="deconvolution",
        title="Deconvolution",
        captum="captum.attr.Deconvolution",
        family="hooks",
        parameters=CommonParameters,
        paper="https://arxiv.org/abs/1311.2901",
        rows=lambda _: 1,
        needs=frozenset({"gradients", "modules"}),
        measures=lambda _: "slope",
    ),
    Method(
        name="deep_lift",
        title="DeepLIFT (rescale rule)",
        captum="captum.attr.DeepLift",
        family="hooks",
        parameters=BaselineParameters,
        paper="https://arxiv.org/abs/1704.02685",
        rows=lambda _: 2,
        needs=frozenset({"gradients", "modules", "baseline"}),
        promises=frozenset({"completeness"}),
    ),
    Method(
        name="lrp",
        title="Layer-wise relevance propagation",
        captum="captum.attr.LRP",
        family="hooks",
        parameters=LrpParameters,
        paper="https://doi.org/10.1371/journal.pone.0130140",
        rows=lambda _: 2,
        needs=frozenset({"gradients", "modules"}),
    ),
)

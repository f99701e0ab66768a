"""Methods that average another method over noisy copies of the instance."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.explain.methods.method import Measure, Method
from service.explain.methods.parameters import BaselineParameters

SAMPLES = 25
NODES = 16
"""Of integrated gradients at each noisy copy."""
OVER = ("saliency", "input_x_gradient", "integrated_gradients", "guided_backprop", "deconvolution", "deep_lift")


class NoiseParameters(BaselineParameters):
    over: Literal["saliency", "input_x_gradient", "integrated_gradients", "guided_backprop", "deconvolution", "deep_lift"] = Field(
        default="saliency", description=f"the method that is averaged; integrated gradients with {NODES} nodes"
    )
    absolute: bool = Field(default=False, description="of saliency: average the gradient's magnitude instead of the gradient")
    n_samples: int = Field(default=SAMPLES, ge=1, description="noisy copies of the instance")
    noise: float = Field(default=0.15, gt=0, le=1, description="standard deviation of the noise, as a part of what the values span")


def _cost(p: NoiseParameters) -> int:
    return p.n_samples * {"integrated_gradients": NODES, "deep_lift": 2}.get(p.over, 1)


def _measures(p: NoiseParameters) -> Measure:
    return "share" if p.over in ("input_x_gradient", "integrated_gradients", "deep_lift") else "slope"


ENTRIES = (
    Method(
        name="smoothgrad",
        title="SmoothGrad",
        captum="captum.attr.NoiseTunnel",
        family="noise",
        parameters=NoiseParameters,
        paper="https://arxiv.org/abs/1706.03825",
        rows=_cost,
        unsigned=lambda p: p.over == "saliency" and p.absolute,
        measures=_measures,
    ),
    Method(
        name="smoothgrad_squared",
        title="SmoothGrad squared",
        captum="captum.attr.NoiseTunnel",
        family="noise",
        parameters=NoiseParameters,
        paper="https://arxiv.org/abs/1806.10758",
        rows=_cost,
        unsigned=lambda _: True,
        measures=lambda _: "score",
    ),
    Method(
        name="vargrad",
        title="VarGrad",
        captum="captum.attr.NoiseTunnel",
        family="noise",
        parameters=NoiseParameters,
        paper="https://arxiv.org/abs/1810.03307",
        rows=_cost,
        unsigned=lambda _: True,
        measures=lambda _: "score",
    ),
)

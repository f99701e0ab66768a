"""Methods that compare the instance with many typical ones."""

from __future__ import annotations

from pydantic import Field, model_validator

from service.explain.methods.method import Method
from service.explain.methods.parameters import ReferenceParameters

DEFAULT_TOLERANCE = 0.05
FIRST_SAMPLES = 64
"""About how many there are in the first two rounds."""


class GradientShapParameters(ReferenceParameters):
    n_samples: int | None = Field(
        default=None,
        ge=1,
        description="a fixed number, drawn as Captum does; default: all references in turn, until 'tolerance' is reached",
    )
    tolerance: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="completeness error to reach, and standard error of the attributions' sum on the same scale; that of the attributions"
        f" relative to their length (L2) is to be at most four times as much; default {DEFAULT_TOLERANCE}, excludes 'n_samples'",
    )
    max_samples: int = Field(
        default=512, ge=FIRST_SAMPLES, le=10_000, description="where 'tolerance' gives up, but for two rounds of the references"
    )
    noise: float = Field(default=0.0, ge=0, le=1, description="standard deviation added to the instance, as a part of what its values span")

    @model_validator(mode="after")
    def _one_way_to_stop(self) -> GradientShapParameters:
        if self.n_samples is not None and self.tolerance is not None:
            raise ValueError("'n_samples' and 'tolerance' exclude each other")
        return self


ENTRIES = (
    Method(
        name="gradient_shap",
        title="Gradient SHAP (expected gradients)",
        captum="captum.attr.GradientShap",
        family="reference",
        parameters=GradientShapParameters,
        paper="https://arxiv.org/abs/1906.10670",
        rows=lambda p: p.n_samples or FIRST_SAMPLES,
        needs=frozenset({"gradients", "reference"}),
        promises=frozenset({"completeness"}),
    ),
    Method(
        name="deep_lift_shap",
        title="DeepLIFT SHAP",
        captum="captum.attr.DeepLiftShap",
        family="reference",
        parameters=ReferenceParameters,
        paper="https://arxiv.org/abs/1705.07874",
        rows=lambda _: 64,
        needs=frozenset({"gradients", "modules", "reference"}),
        promises=frozenset({"completeness"}),
    ),
)

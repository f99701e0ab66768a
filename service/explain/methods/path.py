"""Methods that integrate gradients along a path from a baseline."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from service.explain.methods.method import Method
from service.explain.methods.parameters import BaselineParameters

DEFAULT_TOLERANCE = 0.01


class IntegratedGradientsParameters(BaselineParameters):
    tolerance: float | None = Field(
        default=None, gt=0, lt=1, description=f"relative completeness error to reach; default {DEFAULT_TOLERANCE}, excludes 'steps'"
    )
    integration_tolerance: float | None = Field(
        default=None,
        gt=0,
        description="estimated distance of the attributions from the exact integral to reach, relative (L2); default ten times 'tolerance';"
        " from about 1 on a few rows do, and only their sum can be relied on; excludes 'steps'",
    )
    steps: int | None = Field(default=None, ge=1, description="a fixed number of Gauss-Legendre nodes, as Captum's n_steps")
    precision: Literal["auto", "float32"] = Field(
        default="auto",
        description="auto: gradients in mixed precision (bfloat16) where that is faster and, checked in float32, leaves the"
        " integration tolerance within reach; the answer's `precision` says which it was",
    )
    max_steps: int = Field(default=512, ge=16, description="where 'tolerance' gives up")

    @model_validator(mode="after")
    def _tolerance_or_steps(self) -> IntegratedGradientsParameters:
        if self.steps is not None and self.tolerance is not None:
            raise ValueError("'steps' and 'tolerance' exclude each other")
        if self.steps is not None and self.integration_tolerance is not None:
            raise ValueError("'steps' and 'integration_tolerance' exclude each other")
        return self


ENTRIES = (
    Method(
        name="integrated_gradients",
        title="Integrated gradients",
        captum="captum.attr.IntegratedGradients",
        family="path",
        parameters=IntegratedGradientsParameters,
        paper="https://arxiv.org/abs/1703.01365",
        rows=lambda p: p.steps or 16,
        needs=frozenset({"gradients", "baseline"}),
        promises=frozenset({"completeness"}),
    ),
)

"""Methods that attribute to a picture's regions instead of its pixels."""

from __future__ import annotations

from service.explain.methods.method import Method
from service.explain.methods.path import IntegratedGradientsParameters


class XraiParameters(IntegratedGradientsParameters):
    """A `baseline` of the request takes the place of the two that XRAI starts from, black and white."""


ENTRIES = (
    Method(
        name="xrai",
        title="XRAI",
        captum="captum.attr.IntegratedGradients",
        family="region",
        parameters=XraiParameters,
        paper="https://arxiv.org/abs/1906.02825",
        rows=lambda p: 2 * (p.steps or 16),
        needs=frozenset({"gradients", "baseline", "picture"}),
        measures=lambda _: "score",
    ),
)

"""The methods that attribute to a layer's units, as data. Imports neither torch nor Captum."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from service.explain.layers.parameters import LayerAttributionParameters
from service.explain.methods.method import Method

DEFAULT_STEPS = 50
"""Nodes of a path where nothing says whether they suffice."""


def _method(name: str, title: str, captum: str, paper: str, *, integrates: bool, complete: bool = False) -> Method:
    return Method(
        name=name,
        title=title,
        captum=f"captum.attr.{captum}",
        family="layer",
        parameters=LayerAttributionParameters,
        paper=paper,
        rows=lambda p: (p.steps or DEFAULT_STEPS) if integrates else 1,
        needs=frozenset({"gradients", "modules", "baseline"} if integrates else {"gradients", "modules"}),
        promises=frozenset({"completeness"} if complete else ()),
    )


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        m.name: m
        for m in (
            _method(
                "layer_conductance",
                "Layer conductance",
                "LayerConductance",
                "https://arxiv.org/abs/1805.12233",
                integrates=True,
                complete=True,
            ),
            _method("internal_influence", "Internal influence", "InternalInfluence", "https://arxiv.org/abs/1802.03788", integrates=True),
            _method(
                "layer_gradient_x_activation",
                "Layer gradient times activation",
                "LayerGradientXActivation",
                "https://arxiv.org/abs/1605.01713",
                integrates=False,
            ),
            _method("layer_grad_cam", "Grad-CAM in the layer", "LayerGradCam", "https://arxiv.org/abs/1610.02391", integrates=False),
        )
    }
)

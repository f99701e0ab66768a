"""What Captum finds on the original torch module, one instance at a time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import captum.attr as ca
import numpy as np
import torch
from captum.attr._utils.custom_modules import Addition_Module
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[Any]
SAMPLES = 16
STEPS = 32
NOISE = 0.1


@dataclass(frozen=True, eq=False)
class Asked:
    """Of Captum: `x` and `baseline` (1, ..), `references` (R, ..)."""

    module: nn.Module
    x: Tensor
    target: int | tuple[int, ...]
    baseline: Tensor
    references: Tensor
    layer: nn.Module | None
    span: float


def _simple(kind: Any, **more: Any) -> Callable[[Asked], Tensor]:
    return lambda a: kind(a.module).attribute(a.x, target=a.target, **more)


def _noisy(kind: str) -> Callable[[Asked], Tensor]:
    def run(a: Asked) -> Tensor:
        torch.manual_seed(0)
        tunnel = ca.NoiseTunnel(ca.Saliency(a.module))
        deviation = NOISE * a.span
        return tunnel.attribute(
            a.x, nt_type=kind, nt_samples=SAMPLES, nt_samples_batch_size=1, stdevs=deviation, target=a.target, abs=False
        )  # fmt: skip

    return run


def _gradient_shap(a: Asked) -> Tensor:
    torch.manual_seed(0)
    np.random.seed(0)
    return ca.GradientShap(a.module).attribute(a.x, a.references, n_samples=SAMPLES, stdevs=0.0, target=a.target)


def _lrp(rule: Callable[[], Any]) -> Callable[[Asked], Tensor]:
    weighted = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)

    def run(a: Asked) -> Tensor:
        for part in a.module.modules():
            if isinstance(part, weighted):
                part.rule = rule()
            elif isinstance(part, nn.MaxPool2d | nn.AvgPool2d | nn.BatchNorm2d | Addition_Module):
                part.rule = EpsilonRule()
        # In float64 as ours is: in float32 Captum disagrees with itself by up to 7 % where a layer's output is near 0.
        return ca.LRP(a.module.double()).attribute(a.x.double(), target=a.target)

    return run


def _grad_cam(a: Asked) -> Tensor:
    maps = ca.LayerGradCam(a.module, a.layer).attribute(a.x, target=a.target, relu_attributions=True)
    return ca.LayerAttribution.interpolate(maps, tuple(a.x.shape[2:])).expand_as(a.x)


METHODS: Mapping[str, tuple[str, dict[str, Any], Callable[[Asked], Tensor]]] = {
    "integrated gradients": (
        "integrated_gradients",
        {"steps": STEPS, "baseline": "zero"},
        lambda a: ca.IntegratedGradients(a.module).attribute(a.x, a.baseline, target=a.target, n_steps=STEPS),
    ),
    "saliency": ("saliency", {}, _simple(ca.Saliency)),
    "input x gradient": ("input_x_gradient", {}, _simple(ca.InputXGradient)),
    "guided backprop": ("guided_backprop", {}, _simple(ca.GuidedBackprop)),
    "deconvolution": ("deconvolution", {}, _simple(ca.Deconvolution)),
    "DeepLIFT": ("deep_lift", {"baseline": "zero"}, lambda a: ca.DeepLift(a.module).attribute(a.x, a.baseline, target=a.target)),
    "DeepLIFT SHAP": ("deep_lift_shap", {}, lambda a: ca.DeepLiftShap(a.module).attribute(a.x, a.references, target=a.target)),
    "gradient SHAP": ("gradient_shap", {"n_samples": SAMPLES}, _gradient_shap),
    "LRP epsilon": ("lrp", {}, _lrp(EpsilonRule)),
    "LRP gamma": ("lrp", {"rule": "gamma"}, _lrp(GammaRule)),
    "LRP alpha1 beta0": ("lrp", {"rule": "alpha1_beta0"}, _lrp(Alpha1_Beta0_Rule)),
    "Grad-CAM": ("grad_cam", {}, _grad_cam),
    "guided Grad-CAM": (
        "guided_grad_cam",
        {},
        lambda a: ca.GuidedGradCam(a.module, a.layer).attribute(a.x, target=a.target),
    ),
    "SmoothGrad": ("smoothgrad", {"n_samples": SAMPLES, "noise": NOISE}, _noisy("smoothgrad")),
    "SmoothGrad squared": ("smoothgrad_squared", {"n_samples": SAMPLES, "noise": NOISE}, _noisy("smoothgrad_sq")),
    "VarGrad": ("vargrad", {"n_samples": SAMPLES, "noise": NOISE}, _noisy("vargrad")),
}
"""Shown name to our method's name, its parameters, and Captum's run."""


def by_captum(name: str, asked: Asked) -> Array:
    """(..): the attributions of the one instance."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return METHODS[name][2](asked)[0].detach().numpy()  # type: ignore[no-any-return]

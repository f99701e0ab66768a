"""How far our attributions on an exported graph are from Captum's on the module it was exported from."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from bench.agreement.exported import Exporter, exported
from bench.agreement.networks import Network, made
from bench.agreement.reference import METHODS, Asked, by_captum
from service.errors import NotExplainable
from service.explain.cancel import Token
from service.explain.explainer import explain
from service.explain.methods import resolve
from service.explain.subject import Subject

LIMIT = 1e-4
"""Relative L2."""
REFERENCES = 8
MEMORY = 256 << 20


@dataclass(frozen=True)
class Measured:
    """Of one method on one network: `distances` of each instance; or why it is refused."""

    method: str
    distances: tuple[float, ...] = ()
    refused: str = ""

    @property
    def within(self) -> int:
        return sum(d <= LIMIT for d in self.distances)


def measure(network: Network, count: int, exporter: Exporter = "dynamo", seed: int = 0) -> list[Measured]:
    """Every method that both have, on `count` instances drawn by `seed`."""
    module = made(network, seed)
    subject = exported(copy.deepcopy(module), network, exporter)
    # The exporters fold BatchNormalization into the convolution before it: Captum explains the module folded likewise.
    original = _with_exported_weights(module.folded(), subject) if hasattr(module, "folded") else module
    generator = torch.Generator().manual_seed(seed + 1)
    x = torch.randn(count, *network.shape, generator=generator)
    references = torch.randn(REFERENCES, *network.shape, generator=generator)
    subject = dataclasses.replace(subject, reference={"x": references.numpy()})
    return [_compared(name, subject, original, network, x, references) for name in METHODS]


def _with_exported_weights(folded: nn.Module, subject: Subject) -> nn.Module:
    """The folded module with the exporter's own digits: both fold in float32, in different orders, and LRP's gamma rule turns a
    difference in the last digit into one of several percent where a layer's output is near 0."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    ours = [part for part in folded.modules() if isinstance(part, kinds)]
    theirs = [part for part in subject.faithful.modules_by_node.values() if isinstance(part, kinds)]
    for own, exported_one in zip(ours, theirs, strict=True):
        for name, parameter in own.named_parameters():
            digits = exported_one.get_parameter(name).detach()
            torch.testing.assert_close(digits, parameter.detach(), rtol=1e-4, atol=1e-6)
            parameter.data = digits.clone()
    return folded


def _compared(name: str, subject: Subject, original: nn.Module, network: Network, x: torch.Tensor, references: torch.Tensor) -> Measured:
    method, parameters, _ = METHODS[name]
    target = network.target if isinstance(network.target, int) else list(network.target)
    request = resolve(subject.manifest, {"method": method, "target": target, **parameters})
    distances = []
    for row in x.split(1):
        try:
            answer = explain(subject, request, {"x": row.numpy()}, Token(600), MEMORY)
        except NotExplainable as error:
            return Measured(name, refused=str(error).partition(", and ")[2].partition("; methods that")[0] or str(error))
        (explanation,) = answer.explanations
        if explanation.attributions is None:
            return Measured(name, refused="; ".join(explanation.fields["warnings"]))
        own = copy.deepcopy(original)  # Captum leaves rules on layers where it fails
        if method.startswith("deep_lift") and hasattr(own, "apart"):
            own.apart = True
        layer = own.get_submodule(network.layer) if network.layer else None
        asked = Asked(own, row.clone(), network.target, torch.zeros_like(row), references, layer, float(row.max() - row.min()))
        theirs = by_captum(name, asked)
        distances.append(distance(explanation.attributions["x"], theirs))
    return Measured(name, tuple(distances))


def distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Relative L2."""
    size = float(np.linalg.norm(theirs))
    return float(np.linalg.norm(ours.astype(np.float64) - theirs)) / size if size else float(np.abs(ours).max())


def captum_alone(network: Network, count: int, seed: int = 0) -> tuple[float, float]:
    """Median relative completeness error of DeepLIFT SHAP: Captum's on the module as it is, and ours."""
    module = made(network, seed)
    subject = exported(copy.deepcopy(module), network)
    generator = torch.Generator().manual_seed(seed + 1)
    x = torch.randn(count, *network.shape, generator=generator)
    references = torch.randn(REFERENCES, *network.shape, generator=generator)
    subject = dataclasses.replace(subject, reference={"x": references.numpy()})
    request = resolve(subject.manifest, {"method": "deep_lift_shap", "target": network.target})
    assert isinstance(network.target, int)
    theirs, ours = [], []
    with torch.no_grad():
        start = float(module(references)[:, network.target].mean())
        heights = module(x)[:, network.target].tolist()
    for row, height in zip(x.split(1), heights, strict=True):
        asked = Asked(copy.deepcopy(module), row.clone(), network.target, torch.zeros_like(row), references, None, 0.0)
        total = float(by_captum("DeepLIFT SHAP", asked).sum())
        theirs.append(abs(total - (height - start)) / max(abs(height - start), 0.01 * max(1.0, abs(height))))
        (explanation,) = explain(subject, request, {"x": row.numpy()}, Token(600), MEMORY).explanations
        ours.append(explanation.fields["completeness_error"])
    return float(np.median(theirs)), float(np.median(ours))

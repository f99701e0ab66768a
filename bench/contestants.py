"""The two networks on which explanations are compared with Captum's: as a subject of the service and as a plain torch module."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from bench import resnet
from bench.samples import pixels
from service.explain.answer import Explanation
from service.explain.cancel import Token
from service.explain.case import Case, scale
from service.explain.explainer import explain
from service.explain.loading import load
from service.explain.methods import ExplainRequest, resolve
from service.explain.process import PASS_SHARE
from service.explain.subject import Subject
from service.repository.bundle import Location, read_bundle
from service.settings import Settings
from training.networks.mnist_cnn import MnistCnn

Array = NDArray[Any]
MEMORY = Settings.model_fields["explainer_memory_mib"].default * 2**20 // PASS_SHARE
"""Bytes that an explainer process of default size allows a pass."""
TOLERANCE = 0.01
_AGREES = 1e-4
"""Relative to the largest logit."""


@dataclass(frozen=True, eq=False)
class Contestant:
    """A network, the same weights twice. `x` (n, ..) are the instances; the baseline is zero."""

    name: str
    module: nn.Module
    subject: Subject
    x: Array

    @property
    def input(self) -> str:
        return self.subject.manifest.inputs[0].name

    @cached_property
    def request(self) -> ExplainRequest:
        return self._asked()

    @cached_property
    def requests(self) -> dict[str, ExplainRequest]:
        """Ours, by what a table calls it: in float32 where that isn't the default."""
        alone = {"integration_tolerance": 1.0}
        ways = {"default": self.request, "completeness alone": self._asked(**alone)}
        if self.subject.mixed is None:
            return ways
        return ways | {
            f"{name}, float32": self._asked(precision="float32", **more) for name, more in (("default", {}), ("completeness alone", alone))
        }

    def _asked(self, **more: float | str) -> ExplainRequest:
        return resolve(self.subject.manifest, {"method": "integrated_gradients", "tolerance": TOLERANCE, "baseline": "zero", **more})

    def feeds(self, i: int) -> dict[str, Array]:
        return {self.input: self.x[i : i + 1]}

    def ours(self, i: int, request: ExplainRequest | None = None) -> Explanation:
        """As an explainer process answers one request for instance i."""
        (found,) = explain(self.subject, request or self.request, self.feeds(i), Token(600), MEMORY).explanations
        return found

    def chunk(self, i: int) -> int:
        """Rows that ours puts into a pass."""
        return Case(self.subject, self.request.of_row(0), self.feeds(i), None, Token(600), MEMORY).rows

    def point(self, i: int) -> Tensor:
        return torch.from_numpy(self.x[i : i + 1].copy())

    def target(self, i: int) -> int:
        return int(self.answers[i].argmax())

    @cached_property
    def answers(self) -> Array:
        """(n + 1, classes): the logits of each instance, the baseline's behind them."""
        return np.concatenate([self.logits(x[None]) for x in (*self.x, np.zeros_like(self.x[0]))])

    def logits(self, x: Array) -> Array:
        """(N, classes) by ONNX Runtime."""
        return self.subject.served.run({self.input: x})[self.subject.outputs[0]]

    def completeness(self, i: int, total: float, spread: float = 0.0) -> float:
        """API.md's completeness error of attributions that add up to `total`, F by ONNX Runtime; the least that it can be where the
        sum may be off by `spread`."""
        f_b, f_x = (float(self.answers[k, self.target(i)]) for k in (-1, i))
        return max(0.0, abs(total - (f_x - f_b)) - spread) / scale(f_x, f_b)

    def gradients(self, i: int, fractions: Array, rows: int, forward: nn.Module | None = None) -> Iterator[Tensor]:
        """Gradients (rows, ..) of the target's logit at `fractions` of the straight path from zero to instance i, a pass at a time,
        without Captum; of the folded twin or of another module."""
        point, target = self.point(i), self.target(i)
        run = forward or self.twin
        for start in range(0, len(fractions), rows):
            share = torch.from_numpy(fractions[start : start + rows]).to(point.dtype)
            places = (point * share.reshape(-1, *(1,) * (point.dim() - 1))).requires_grad_()
            with torch.enable_grad():
                total = run(places)[:, target].sum()
            yield torch.autograd.grad(total, places)[0]

    @cached_property
    def twin(self) -> nn.Module:
        """The folded twin from the input to the logits (N, classes)."""
        return _First(self.subject.segment(self.subject.outputs))


class _First(nn.Module):
    def __init__(self, segment: nn.Module) -> None:
        super().__init__()
        self.segment = segment

    def forward(self, x: Tensor) -> Tensor:
        return self.segment(x)[0]  # type: ignore[no-any-return]


@contextmanager
def contestants(digits: int, pictures: int) -> Iterator[tuple[Contestant, ...]]:
    """mnist-cnn and the network like ResNet-18, so many instances each; one without instances is left out. Raises AssertionError
    where module and bundle differ."""
    with tempfile.TemporaryDirectory() as root:
        made = []
        if digits:
            folder = Path("models/mnist-cnn/1")
            made.append(Contestant("mnist-cnn", mnist_module(folder / "model.onnx"), _load("mnist-cnn", folder), pixels(digits)))
        if pictures:
            subject = _load(resnet.NAME, resnet.write_bundle(Path(root)))
            made.append(Contestant(resnet.NAME, resnet.network(), subject, resnet.pictures(pictures, seed=100)))
        for one in made:
            _agree(one)
        yield tuple(made)


def mnist_module(file: Path) -> MnistCnn:
    """The recipe's module with the weights of its export, which holds each normalisation folded into the layer before it: here
    that layer has the folded weights and its normalisation adds the bias, at the cost that a normalisation has."""
    weights = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in onnx.load(file).graph.initializer}
    module = MnistCnn().eval().requires_grad_(False)
    layers = [name for name, part in module.named_children() if isinstance(part, nn.Conv2d | nn.Linear) and part.bias is None]
    norms = [part for part in module.children() if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d)]
    for name, norm in zip(layers, norms, strict=True):
        module.get_submodule(name).get_parameter("weight").copy_(weights[f"{name}.weight"])
        assert norm.running_var is not None
        norm.running_var.fill_(1 - norm.eps)
        norm.bias.copy_(weights[f"{name}.weight_bias"])
    module.classes.weight.copy_(weights["classes.weight"])
    module.classes.bias.copy_(weights["classes.bias"])
    return module


def _load(name: str, folder: Path) -> Subject:
    return load(read_bundle(Location(name, 1, folder)), memory=MEMORY)


def _agree(one: Contestant) -> None:
    """Both halves of a contest compute the same."""
    wanted = one.logits(one.x[:1])
    with torch.no_grad():
        for got in (one.module(torch.from_numpy(one.x[:1])), one.twin(torch.from_numpy(one.x[:1]))):
            difference = float(np.abs(got.numpy() - wanted).max() / np.abs(wanted).max())
            assert difference <= _AGREES, f"{one.name}: the torch module differs from ONNX Runtime by {difference:.2g}"

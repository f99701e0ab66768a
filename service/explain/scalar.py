"""F, the one number a row that is explained: a target of an output, as logit, probability or value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.errors import BadParameter
from service.explain.targets import Spec, Target, is_single_score, resolve
from service.manifest import Manifest, Output

Explained = Literal["logit", "probability", "value"]


@dataclass(frozen=True, slots=True)
class Scalar:
    """`of` maps the values of the tensor named `tensor`, (N, ..), to F, (N,)."""

    tensor: str
    target: Target
    explained: Explained
    activation: Literal["softmax", "sigmoid", "none"] = "none"
    axis: int = -1
    offset: float = 0.0

    def of(self, values: Tensor) -> Tensor:
        if self.activation == "softmax":
            values = torch.softmax(values, self.axis)
        elif self.activation == "sigmoid":
            values = torch.sigmoid(values)
        scalars: Tensor = self.target.of(values)
        return scalars + self.offset if self.offset else scalars

    @property
    def linear(self) -> bool:
        """Whether F is a weighted sum of the tensor's values (and a constant)."""
        return self.activation == "none"

    def slope(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The gradient of a linear F in values of this shape (N, ..)."""
        return self.target.slope(shape)

    def of_array(self, values: NDArray[Any]) -> NDArray[Any]:
        if not self.linear:
            return self.of(torch.from_numpy(values)).numpy()
        scalars: NDArray[Any] = self.target.of(values)
        return scalars + self.offset if self.offset else scalars


def choose(
    manifest: Manifest, output: Output, asked: Explained | None, spec: Spec, ran: Mapping[str, NDArray[Any]], logits: Mapping[str, str]
) -> Scalar:
    """F for one instance.

    `ran` are the model's outputs for it (1, ..); `logits` names, for outputs that end in their activation, the tensor
    before it. Raises BadParameter and UnknownChoice.
    """
    if ran[output.name].dtype.kind in "OUS":
        numbers = [o.name for o in manifest.outputs if ran[o.name].dtype.kind not in "OUS"]
        raise BadParameter(
            f"output {output.name!r} is text, of which nothing can be explained; outputs of numbers: {', '.join(numbers) or 'none'}"
        )
    target = resolve(spec, output, ran[output.name][0])
    explained = asked or _default(manifest, output)
    scores = output.kind in ("classes", "mask")
    possible: tuple[Explained, ...] = ("value",)
    if scores:
        has_logits = not output.activated or output.name in logits
        has_probabilities = output.activated or output.activation != "none"
        possible = (*(("logit",) if has_logits else ()), *(("probability",) if has_probabilities else ()))
    if explained not in possible:
        raise BadParameter(f"parameter 'explained': output {output.name!r} has {' and '.join(possible)}, not {explained!r}")
    if explained != "probability":
        return Scalar(logits.get(output.name, output.name) if output.activated else output.name, target, explained)
    # Of a single score, class 0 has what class 1's probability leaves.
    offset = 1.0 if is_single_score(output) and target.sign < 0 else 0.0
    axis = 1 if output.kind == "mask" and output.layout != "NHWC" else -1
    return Scalar(output.name, target, explained, "none" if output.activated else output.activation, axis, offset)


def _default(manifest: Manifest, output: Output) -> Explained:
    if output.kind not in ("classes", "mask"):
        return "value"
    declared = manifest.explain.output if manifest.explain and output is manifest.outputs[0] else None
    if declared in ("logit", "probability"):
        return declared
    return "probability" if output.activated else "logit"

"""The mixed form of a twin: outputs in float32, gradients through its convolutions and linear layers in bfloat16.

The pass forward decides which units are open, so it stays as it is, and F, completeness and parity with it. In bfloat16 altogether
a ResNet-18's gradient is a third off its true one, since units near zero open and close; with the pass backward alone in
bfloat16, which is linear, it is less than a hundredth off. How far, every explanation measures for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import grad

from service.explain.twin.module import Twin

Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
_INPUT_GRADIENT = {1: grad.conv1d_input, 2: grad.conv2d_input, 3: grad.conv3d_input}
"""By spatial axes."""


def mixed(twin: Twin) -> Twin | None:
    """A new twin that computes the same, and shares modules with `twin`, which stays as it is; None where it has no such layer."""
    layers = {name: Mixed(module) for name, module in twin.compiled.modules.items() if _is_layer(module)}
    return Twin(replace(twin.compiled, modules={**twin.compiled.modules, **layers})) if layers else None


class Mixed(nn.Module):
    """Computes what `layer` does, (N, ..) to (N, ..) float32; its gradient in the input in bfloat16, none in its weights."""

    rounded: Tensor

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("rounded", layer.weight.detach().to(torch.bfloat16))

    def forward(self, x: Tensor) -> Tensor:
        return _Rounded.apply(x, self)  # type: ignore[no-any-return, no-untyped-call]

    def input_gradient(self, gradient: Tensor, shape: Sequence[int]) -> Tensor:
        """(N, ..) of this shape from the gradient (N, ..) in the output."""
        upstream, layer = gradient.to(torch.bfloat16), self.layer
        if isinstance(layer, nn.Linear):
            return upstream @ self.rounded
        convolve = _INPUT_GRADIENT[len(layer.kernel_size)]
        found: Tensor = convolve(shape, self.rounded, upstream, layer.stride, layer.padding, layer.dilation, layer.groups)  # type: ignore[no-untyped-call]
        return found


class _Rounded(torch.autograd.Function):
    """Keeps nothing of the pass forward: the gradient needs the weights alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Mixed) -> Tensor:
        ctx.layer, ctx.shape = layer, x.shape
        result: Tensor = layer.layer(x)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.layer.input_gradient(gradients[0], ctx.shape).float(), None


def _is_layer(module: nn.Module) -> TypeGuard[Layer]:
    """Not a subclass's, and none of what the gradient above doesn't do."""
    return (
        type(module) in (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
        and module.weight.dtype == torch.float32
        and not isinstance(getattr(module, "padding", None), str)
        and getattr(module, "padding_mode", "zeros") == "zeros"
    )

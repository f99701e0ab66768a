"""Non-linearities: exact, fresh `torch.nn` modules, one a node, since DeepLIFT and guided backprop hook them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from service.explain.twin.registry import Bound, Constant, Dynamic, module_form, named, operator


def _plain(name: str, function: Callable[[Tensor], Tensor], module: Callable[[], nn.Module]) -> None:
    """Register a non-linearity without attributes."""

    @module_form(named(name, function))
    def make(_: Constant) -> Bound:
        return Bound(module())


_plain("Relu", F.relu, nn.ReLU)
_plain("Sigmoid", torch.sigmoid, nn.Sigmoid)
_plain("Tanh", torch.tanh, nn.Tanh)
_plain("Softplus", F.softplus, lambda: nn.Softplus(threshold=1e6))
_plain("Softsign", F.softsign, nn.Softsign)
_plain("HardSwish", F.hardswish, nn.Hardswish)
_plain("Mish", F.mish, nn.Mish)


@operator
def LeakyRelu(X: Tensor, *, alpha: float = 0.01) -> Tensor:
    return F.leaky_relu(X, alpha)


@module_form(LeakyRelu)
def leaky_relu(X: Constant, *, alpha: float = 0.01) -> Bound:
    return Bound(nn.LeakyReLU(alpha))


@operator
def Elu(X: Tensor, *, alpha: float = 1.0) -> Tensor:
    return F.elu(X, alpha)


@module_form(Elu)
def elu(X: Constant, *, alpha: float = 1.0) -> Bound:
    return Bound(nn.ELU(alpha))


@operator
def Celu(X: Tensor, *, alpha: float = 1.0) -> Tensor:
    return F.celu(X, alpha)


@module_form(Celu)
def celu(X: Constant, *, alpha: float = 1.0) -> Bound:
    return Bound(nn.CELU(alpha))


SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


@operator
def Selu(X: Tensor, *, alpha: float = SELU_ALPHA, gamma: float = SELU_GAMMA) -> Tensor:
    return gamma * F.elu(X, alpha)


@operator
def Gelu(X: Tensor, *, approximate: str = "none") -> Tensor:
    return F.gelu(X, approximate=approximate)


@module_form(Gelu)
def gelu(X: Constant, *, approximate: str = "none") -> Bound:
    return Bound(nn.GELU(approximate))


@operator
def HardSigmoid(X: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    return torch.clamp(alpha * X + beta, 0, 1)


@operator
def ThresholdedRelu(X: Tensor, *, alpha: float = 1.0) -> Tensor:
    return torch.where(X > alpha, X, torch.zeros_like(X))


@module_form(ThresholdedRelu)
def thresholded_relu(X: Constant, *, alpha: float = 1.0) -> Bound:
    return Bound(nn.Threshold(alpha, 0.0))


@operator
def Shrink(input: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    zero = torch.zeros_like(input)
    return torch.where(input < -lambd, input + bias, torch.where(input > lambd, input - bias, zero))


@operator
def Swish(X: Tensor, *, alpha: float = 1.0) -> Tensor:
    return X * torch.sigmoid(alpha * X)


@operator
def PRelu(X: Tensor, slope: Tensor) -> Tensor:
    """Until opset 6 a slope of one axis is one a channel."""
    per_channel = slope.dim() == 1 and slope.numel() > 1 and X.dim() > 2
    return PRelu_7(X, slope.reshape(-1, *(1,) * (X.dim() - 2)) if per_channel else slope)


@operator
def PRelu_7(X: Tensor, slope: Tensor) -> Tensor:
    return torch.where(X < 0, slope * X, X)


@module_form(PRelu_7)
def prelu(X: Constant, slope: Constant) -> Bound | None:
    """`nn.PReLU` where the slope is one number, or one a channel (axis 1)."""
    if slope is None or isinstance(slope, Dynamic) or not isinstance(X, Dynamic) or X.rank is None:
        return None
    per_channel = slope.dim() == X.rank - 1 and all(size == 1 for size in slope.shape[1:]) and X.rank >= 2
    if slope.numel() != 1 and not per_channel:
        return None
    module = nn.PReLU(slope.numel())
    module.weight = nn.Parameter(slope.reshape(-1).clone())
    return Bound(module)


# ------------------------------------------------------------------------------------------------- over an axis
# Before opset 13 the axes from `axis` on were taken together.


def _flattened(function: Callable[[Tensor], Tensor], x: Tensor, axis: int) -> Tensor:
    return function(x.flatten(axis % x.dim()) if x.dim() else x).reshape(x.shape)


@operator
def Softmax(input: Tensor, *, axis: int = 1) -> Tensor:
    return _flattened(lambda x: torch.softmax(x, -1), input, axis)


@operator
def Softmax_13(input: Tensor, *, axis: int = -1) -> Tensor:
    return torch.softmax(input, axis)


@operator
def LogSoftmax(input: Tensor, *, axis: int = 1) -> Tensor:
    return _flattened(lambda x: torch.log_softmax(x, -1), input, axis)


@operator
def LogSoftmax_13(input: Tensor, *, axis: int = -1) -> Tensor:
    return torch.log_softmax(input, axis)


@module_form(Softmax)
def softmax(input: Constant, *, axis: int = 1) -> Bound:
    return Bound(nn.Softmax(-1), lambda module, x: _flattened(module, x, axis))


@module_form(Softmax_13)
def softmax_13(input: Constant, *, axis: int = -1) -> Bound:
    return Bound(nn.Softmax(axis))


@module_form(LogSoftmax)
def log_softmax(input: Constant, *, axis: int = 1) -> Bound:
    return Bound(nn.LogSoftmax(-1), lambda module, x: _flattened(module, x, axis))


@module_form(LogSoftmax_13)
def log_softmax_13(input: Constant, *, axis: int = -1) -> Bound:
    return Bound(nn.LogSoftmax(axis))


@operator
def Hardmax(input: Tensor, *, axis: int = 1) -> Tensor:
    return _flattened(lambda x: Hardmax_13(x, axis=-1), input, axis)


@operator
def Hardmax_13(input: Tensor, *, axis: int = -1) -> Tensor:
    largest = input.argmax(axis, keepdim=True)
    return torch.zeros_like(input).scatter(axis, largest, 1)

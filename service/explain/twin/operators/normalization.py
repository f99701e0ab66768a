"""Normalisations: with constant statistics or scales an `nn` module, which can be folded or hooked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from service.explain.twin.registry import Bound, Constant, Dynamic, module_form, operator

BATCH = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
INSTANCE = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}


@operator
def BatchNormalization(
    X: Tensor,
    scale: Tensor,
    B: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    epsilon: float = 1e-5,
    is_test: int = 1,
    momentum: float = 0.9,
    spatial: int = 1,
) -> Tensor:
    """`is_test`: until opset 6, in which a served graph is always the test."""
    return _normalised(X, scale, B, mean, var, epsilon)


def _normalised(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor, epsilon: float) -> Tensor:
    """Written out: `F.batch_norm` passes no gradient to the statistics. They are (C,), or (C, spatial..) of each place."""
    behind = (1,) * (x.dim() - 1 - mean.dim())
    s, b, m, v = (t.reshape(*t.shape, *behind) for t in (scale, bias, mean, var))
    return ((x - m) * (torch.rsqrt(v + epsilon) * s) + b).to(x.dtype)


@operator
def BatchNormalization_14(
    X: Tensor,
    scale: Tensor,
    B: Tensor,
    input_mean: Tensor,
    input_var: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> Tensor | tuple[Tensor, ...]:
    if not training_mode:
        return _normalised(X, scale, B, input_mean, input_var, epsilon)
    axes = (0, *range(2, X.dim()))
    mean, var = X.mean(axes), X.var(axes, correction=0)
    running = (input_mean * momentum + mean * (1 - momentum), input_var * momentum + var * (1 - momentum))
    return _normalised(X, scale, B, mean, var, epsilon), *running


@module_form(BatchNormalization, BatchNormalization_14)
def batch_normalization(
    X: Constant,
    scale: Constant,
    B: Constant,
    mean: Constant,
    var: Constant,
    *,
    epsilon: float = 1e-5,
    is_test: int = 1,
    momentum: float = 0.9,
    spatial: int = 1,
    training_mode: int = 0,
) -> Bound | None:
    constants = [c for c in (scale, B, mean, var) if isinstance(c, Tensor)]
    if len(constants) < 4 or training_mode or not spatial or not isinstance(X, Dynamic) or X.rank not in BATCH:
        return None
    module = BATCH[X.rank](constants[0].numel(), eps=epsilon)
    module.weight, module.bias = nn.Parameter(constants[0].clone()), nn.Parameter(constants[1].clone())
    module.running_mean, module.running_var = constants[2].clone(), constants[3].clone()
    return Bound(module)


@operator
def InstanceNormalization(input: Tensor, scale: Tensor, B: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    return F.instance_norm(input, weight=scale, bias=B, eps=epsilon)


@module_form(InstanceNormalization)
def instance_normalization(input: Constant, scale: Constant, B: Constant, *, epsilon: float = 1e-5) -> Bound | None:
    if not isinstance(scale, Tensor) or not isinstance(B, Tensor) or not isinstance(input, Dynamic) or input.rank not in INSTANCE:
        return None
    module = INSTANCE[input.rank](scale.numel(), eps=epsilon, affine=True)
    module.weight, module.bias = nn.Parameter(scale.clone()), nn.Parameter(B.clone())
    return Bound(module)


@operator
def GroupNormalization(X: Tensor, scale: Tensor, bias: Tensor, *, num_groups: int, epsilon: float = 1e-5) -> Tensor:
    """One scale and one bias a group."""
    each = X.shape[1] // num_groups
    return F.group_norm(X, num_groups, scale.repeat_interleave(each), bias.repeat_interleave(each), epsilon)


@operator
def GroupNormalization_21(X: Tensor, scale: Tensor, bias: Tensor, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1) -> Tensor:
    return F.group_norm(X, num_groups, scale, bias, epsilon)


@module_form(GroupNormalization_21)
def group_normalization(
    X: Constant, scale: Constant, bias: Constant, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1
) -> Bound | None:
    if not isinstance(scale, Tensor) or not isinstance(bias, Tensor):
        return None
    module = nn.GroupNorm(num_groups, scale.numel(), eps=epsilon)
    module.weight, module.bias = nn.Parameter(scale.clone()), nn.Parameter(bias.clone())
    return Bound(module)


@operator
def LayerNormalization(
    X: Tensor, Scale: Tensor, B: Tensor | None = None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1, outputs: int = 1
) -> tuple[Tensor, ...]:
    axes = tuple(range(axis % X.dim(), X.dim()))
    mean = X.mean(axes, keepdim=True)
    inverse = torch.rsqrt(((X - mean) ** 2).mean(axes, keepdim=True) + epsilon)
    scaled = (X - mean) * inverse * Scale
    return (scaled if B is None else scaled + B, mean, inverse)[:outputs]


@module_form(LayerNormalization)
def layer_normalization(
    X: Constant,
    Scale: Constant,
    B: Constant = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    outputs: int = 1,
) -> Bound | None:
    if outputs > 1 or not isinstance(Scale, Tensor) or isinstance(B, Dynamic) or not isinstance(X, Dynamic) or X.rank is None:
        return None
    if Scale.dim() != X.rank - axis % X.rank or (B is not None and B.shape != Scale.shape):
        return None
    module = nn.LayerNorm(tuple(Scale.shape), eps=epsilon, bias=B is not None)
    module.weight = nn.Parameter(Scale.clone())
    if B is not None:
        module.bias = nn.Parameter(B.clone())
    return Bound(module)


@operator
def RMSNormalization(X: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1) -> Tensor:
    axes = tuple(range(axis % X.dim(), X.dim()))
    return X * torch.rsqrt((X**2).mean(axes, keepdim=True) + epsilon) * scale


@operator
def LRN(X: Tensor, *, alpha: float = 0.0001, beta: float = 0.75, bias: float = 1.0, size: int) -> Tensor:
    before = (size - 1) // 2
    squares = F.pad((X**2).movedim(1, -1), (before, size - 1 - before))  # (N, spatial.., C + size - 1)
    sums = squares.unfold(-1, size, 1).sum(-1).movedim(-1, 1)
    return X / (bias + alpha / size * sums) ** beta


@operator
def LpNormalization(input: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    norm = input.abs().sum(axis, keepdim=True) if p == 1 else (input**2).sum(axis, keepdim=True).sqrt()
    return torch.where(norm == 0, torch.zeros_like(input), input / torch.where(norm == 0, torch.ones_like(norm), norm))


@operator
def MeanVarianceNormalization(X: Tensor, *, axes: Sequence[int] = (0, 2, 3)) -> Tensor:
    mean = X.mean(tuple(axes), keepdim=True)
    deviation = ((X - mean) ** 2).mean(tuple(axes), keepdim=True).sqrt()
    return (X - mean) / (deviation + 1e-9)

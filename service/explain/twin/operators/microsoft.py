"""ONNX Runtime's other own operators (`com.microsoft`): products, normalisations and layouts that its optimiser makes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from service.explain.twin.operators.layout import Pad_11
from service.explain.twin.operators.linear import as_linear
from service.explain.twin.operators.normalization import LayerNormalization
from service.explain.twin.operators.pooling import MaxPool
from service.explain.twin.registry import Bound, Constant, Dynamic, hides, in_domain, module_form, operator

microsoft = in_domain("com.microsoft")


def _turned(x: Tensor, trans: int, trans_batch: int) -> Tensor:
    """`trans_batch`: the first axis belongs behind the batch, (M, B.., K) to (B.., M, K)."""
    if trans_batch:
        x = x.movedim(0, -2)
    return x.transpose(-1, -2) if trans and x.dim() > 1 else x


@microsoft
def FusedMatMul(
    A: Tensor, B: Tensor, *, alpha: float = 1.0, transA: int = 0, transB: int = 0, transBatchA: int = 0, transBatchB: int = 0
) -> Tensor:
    return alpha * torch.matmul(_turned(A, transA, transBatchA), _turned(B, transB, transBatchB))


@module_form(FusedMatMul)
def fused_matmul(
    A: Constant, B: Constant, *, alpha: float = 1.0, transA: int = 0, transB: int = 0, transBatchA: int = 0, transBatchB: int = 0
) -> Bound | None:
    if not isinstance(B, Tensor) or B.dim() != 2 or transA or transBatchA or transBatchB:
        return None
    return Bound(as_linear(alpha * (B if transB else B.T), None))


@microsoft
def TransposeMatMul(A: Tensor, B: Tensor, *, alpha: float = 1.0, transA: int = 0, transB: int = 0) -> Tensor:
    return FusedMatMul(A, B, alpha=alpha, transA=transA, transB=transB)


@microsoft
def MatMulNBits(
    A: Tensor,
    B: Tensor,
    scales: Tensor,
    zero_points: Tensor | None = None,
    g_idx: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    K: int,
    N: int,
    accuracy_level: int = 0,
    bits: int = 4,
    block_size: int,
    weight_prepacked: int = 0,
) -> Tensor:
    """A (.., K) by a weight (N, K) in blocks of `block_size` with a scale each, `bits` a number, packed into bytes."""
    product = torch.matmul(A, _unpacked(B, scales, zero_points, K, N, bits, block_size).T.to(A.dtype))
    return product if bias is None else product + bias


@module_form(MatMulNBits)
def matmul_n_bits(
    A: Constant,
    B: Constant,
    scales: Constant,
    zero_points: Constant = None,
    g_idx: Constant = None,
    bias: Constant = None,
    *,
    K: int,
    N: int,
    accuracy_level: int = 0,
    bits: int = 4,
    block_size: int,
    weight_prepacked: int = 0,
) -> Bound | None:
    if not isinstance(B, Tensor) or not isinstance(scales, Tensor) or isinstance(zero_points, Dynamic) or isinstance(bias, Dynamic):
        return None
    return Bound(as_linear(_unpacked(B, scales, zero_points, K, N, bits, block_size), bias))


def _unpacked(B: Tensor, scales: Tensor, zero_points: Tensor | None, K: int, N: int, bits: int, block_size: int) -> Tensor:
    """The weight (N, K)."""
    blocks = -(-K // block_size)
    values = _numbers(B.reshape(N, blocks, -1), bits)[..., :block_size]  # (N, blocks, block_size)
    if zero_points is None:
        zeros = torch.full((N, blocks), float(1 << (bits - 1)), device=B.device)
    elif zero_points.is_floating_point():
        zeros = zero_points.reshape(N, blocks)
    else:
        zeros = _numbers(zero_points.reshape(N, -1), bits)[:, :blocks]
    weight = (values - zeros.unsqueeze(-1)) * scales.reshape(N, blocks, 1)
    return weight.reshape(N, -1)[:, :K]


def _numbers(packed: Tensor, bits: int) -> Tensor:
    """The last axis' bytes as numbers of so many bits each, the low ones first."""
    shifts = torch.arange(0, 8, bits, device=packed.device)
    return ((packed.long().unsqueeze(-1) >> shifts) & ((1 << bits) - 1)).flatten(-2).float()


@hides
@microsoft
def QuickGelu(X: Tensor, *, alpha: float = 1.702) -> Tensor:
    return X * torch.sigmoid(alpha * X)


@microsoft
def EmbedLayerNormalization(
    input_ids: Tensor,
    segment_ids: Tensor | None,
    word_embedding: Tensor,
    position_embedding: Tensor,
    segment_embedding: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    *,
    epsilon: float = 1e-12,
    mask_index_type: int = 0,
    outputs: int = 1,
) -> tuple[Tensor, ...]:
    """The normalised sum (B, T, H) of a word's, its place's and its segment's vectors; the rows' lengths; the sum itself."""
    places = torch.arange(input_ids.shape[1], device=input_ids.device) if position_ids is None else position_ids.long()
    total = word_embedding[input_ids.long()] + position_embedding[places]
    if segment_embedding is not None and segment_ids is not None:
        total = total + segment_embedding[segment_ids.long()]
    (normalised,) = LayerNormalization(total, gamma, beta, epsilon=epsilon)
    lengths = torch.zeros(len(input_ids), dtype=torch.int32, device=input_ids.device) if mask is None else mask.sum(1).to(torch.int32)
    return (normalised, lengths, total)[:outputs]


@operator
def SimplifiedLayerNormalization(
    X: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1, outputs: int = 1
) -> tuple[Tensor, ...]:
    """ONNX Runtime registers it in the standard's domain: RMSNormalization before the standard had it."""
    axes = tuple(range(axis % X.dim(), X.dim()))
    inverse = torch.rsqrt((X**2).mean(axes, keepdim=True) + epsilon)
    return (X * inverse * scale, inverse)[:outputs]


@module_form(SimplifiedLayerNormalization)
def simplified_layer_normalization(
    X: Constant, scale: Constant, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1, outputs: int = 1
) -> Bound | None:
    if outputs > 1 or not isinstance(scale, Tensor) or not isinstance(X, Dynamic) or (axis != -1 and axis != (X.rank or 0) - 1):
        return None
    module = nn.RMSNorm(tuple(scale.shape), eps=epsilon)
    module.weight = nn.Parameter(scale.clone())
    return Bound(module)


@microsoft
def BiasAdd(X: Tensor, bias: Tensor, skip: Tensor) -> Tensor:
    return X + bias + skip


@microsoft
def Inverse(X: Tensor) -> Tensor:
    inverse: Tensor = torch.linalg.inv(X)
    return inverse


@microsoft
def ExpandDims(X: Tensor, axis: Tensor) -> Tensor:
    return X.unsqueeze(int(axis))


@microsoft
def Pad(data: Tensor, pads: Tensor, value: Tensor | None = None, *, mode: str = "constant") -> Tensor:
    return Pad_11(data, pads.reshape(-1), value, mode=mode)


@microsoft
def NhwcMaxPool(
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    (y,) = MaxPool(
        x.movedim(-1, 1),
        kernel_shape=kernel_shape,
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
        dilations=dilations,
        pads=pads,
        strides=strides,
    )
    return y.movedim(1, -1)

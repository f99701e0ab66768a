"""Attention as ONNX Runtime fuses it (`com.microsoft`); the standard's own Attention is spelled out by `functions`.

The softmax in it is no module of its own, so methods that hook non-linearities don't see it: marked `hides`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from service.explain.twin.operators.quantization import real
from service.explain.twin.registry import hides, in_domain

microsoft = in_domain("com.microsoft")


@dataclass(frozen=True, slots=True)
class Heads:
    """How scores are made and masked."""

    count: int
    scale: float
    """0: one by the square root of a head's size."""
    causal: bool
    mask_value: float

    def split(self, x: Tensor) -> Tensor:
        """(B, T, N * H) to (B, N, T, H)."""
        return x.reshape(*x.shape[:-1], self.count, -1).transpose(1, 2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """q (B, N, S, H), k and v (B, N, T, ..) to the result (B, S, N * H) and the scores (B, N, S, T).

        `mask` and `bias` are added to the scores.
        """
        scores = torch.matmul(q, k.transpose(-1, -2)) * (self.scale or 1 / math.sqrt(q.shape[-1]))
        for added in (bias, mask):
            scores = scores if added is None else scores + added
        if self.causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1 + k.shape[2] - q.shape[2])
            scores = scores.masked_fill(later, torch.finfo(scores.dtype).min)
        return torch.matmul(scores.softmax(-1), v).transpose(1, 2).flatten(2), scores

    def mask(self, given: Tensor | None, rows: int, total: int, like: Tensor) -> Tensor | None:
        """What to add to scores for a mask in any of ONNX Runtime's forms: lengths (B,), ends and starts (2 * B,), zeros
        and ones (B, T), (B, S, T) or (B, 1, T, T)."""
        if given is None:
            return None
        if given.dim() == 1:
            places = torch.arange(total, device=given.device)
            kept = places < given[:rows].unsqueeze(-1)
            if given.numel() == 2 * rows:
                kept = kept & (places >= given[rows:].unsqueeze(-1))
        elif given.dim() <= 4 and given.shape[0] == rows:
            kept = given > 0
        else:
            raise NotImplementedError(f"an attention mask of shape {tuple(given.shape)}")
        added = torch.where(kept, 0.0, self.mask_value).to(like.dtype)
        if added.dim() == 4:
            return added[..., total - like.shape[2] :, :total]
        return added[:, None, None] if added.dim() == 2 else added[:, None]


@hides
@microsoft
def Attention(
    input: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    mask_index: Tensor | None = None,
    past: Tensor | None = None,
    attention_bias: Tensor | None = None,
    past_sequence_length: Tensor | None = None,
    *,
    do_rotary: int = 0,
    mask_filter_value: float = -10000.0,
    num_heads: int,
    past_present_share_buffer: int = 0,
    qkv_hidden_sizes: Sequence[int] | None = None,
    rotary_embedding_dim: int = 0,
    scale: float = 0.0,
    unidirectional: int = 0,
    outputs: int = 1,
) -> tuple[Tensor, ...]:
    if do_rotary or past_present_share_buffer:
        raise NotImplementedError("Attention with do_rotary or past_present_share_buffer")
    heads = Heads(num_heads, scale, bool(unidirectional), mask_filter_value)
    projected = torch.matmul(input, weights) if bias is None else torch.matmul(input, weights) + bias
    sizes = list(qkv_hidden_sizes) if qkv_hidden_sizes else [projected.shape[-1] // 3] * 3
    q, k, v = (heads.split(x) for x in torch.split(projected, sizes, -1))
    if past is not None:
        k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
    mask = heads.mask(mask_index, input.shape[0], k.shape[2], q)
    y, _ = heads.attend(q, k, v, mask, attention_bias)
    return (y, torch.stack([k, v])) if outputs > 1 else (y,)


@hides
@microsoft
def QAttention(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    input_scale: Tensor,
    weight_scale: Tensor,
    mask_index: Tensor | None = None,
    input_zero_point: Tensor | None = None,
    weight_zero_point: Tensor | None = None,
    past: Tensor | None = None,
    *,
    do_rotary: int = 0,
    mask_filter_value: float = -10000.0,
    num_heads: int,
    past_present_share_buffer: int = 0,
    scale: float = 0.0,
    unidirectional: int = 0,
    outputs: int = 1,
) -> tuple[Tensor, ...]:
    return Attention(
        real(input, input_scale, input_zero_point).to(bias.dtype),
        real(weight, weight_scale, weight_zero_point, -1).to(bias.dtype),
        bias,
        mask_index,
        past,
        do_rotary=do_rotary,
        mask_filter_value=mask_filter_value,
        num_heads=num_heads,
        past_present_share_buffer=past_present_share_buffer,
        scale=scale,
        unidirectional=unidirectional,
        outputs=outputs,
    )


@hides
@microsoft
def MultiHeadAttention(
    query: Tensor,
    key: Tensor | None = None,
    value: Tensor | None = None,
    bias: Tensor | None = None,
    key_padding_mask: Tensor | None = None,
    attention_bias: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    past_sequence_length: Tensor | None = None,
    cache_indirection: Tensor | None = None,
    *,
    mask_filter_value: float = -10000.0,
    num_heads: int,
    scale: float = 0.0,
    unidirectional: int = 0,
    outputs: int = 1,
) -> tuple[Tensor, ...]:
    if past_sequence_length is not None or cache_indirection is not None:
        raise NotImplementedError("MultiHeadAttention with a shared buffer or beams")
    heads = Heads(num_heads, scale, bool(unidirectional), mask_filter_value)
    q, k, v = _query_key_value(heads, query, key, value)
    if bias is not None:
        sizes = [heads.count * q.shape[-1], heads.count * k.shape[-1], heads.count * v.shape[-1]]
        q, k, v = (x + b.reshape(1, heads.count, 1, -1) for x, b in zip((q, k, v), torch.split(bias, sizes), strict=True))
    if past_key is not None and past_value is not None:
        k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
    mask = heads.mask(key_padding_mask, query.shape[0], k.shape[2], q)
    y, scores = heads.attend(q, k, v, mask, attention_bias)
    return (y, k, v, scores)[:outputs]


def _query_key_value(heads: Heads, query: Tensor, key: Tensor | None, value: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Each (B, N, T, H), from packed or separate tensors."""
    if key is None:  # (B, T, N, 3, H)
        q, k, v = (x.transpose(1, 2) for x in query.unbind(3))
        return q, k, v
    if value is None:  # key is (B, T, N, 2, H)
        k, v = (x.transpose(1, 2) for x in key.unbind(3))
        return heads.split(query), k, v
    return heads.split(query), key if key.dim() == 4 else heads.split(key), value if value.dim() == 4 else heads.split(value)


@microsoft
def RotaryEmbedding(
    input: Tensor,
    position_ids: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    *,
    interleaved: int = 0,
    is_packed_batching: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    scale: float = 1.0,
) -> Tensor:
    """input (B, S, N * H) or (B, N, S, H); the caches (positions, R / 2), R the part of a head that is turned."""
    half = cos_cache.shape[-1]
    size = input.shape[-1] // num_heads if input.dim() == 3 and num_heads else input.shape[-1] if input.dim() == 4 else 2 * half
    x = input if input.dim() == 4 else input.reshape(*input.shape[:-1], -1, size).transpose(1, 2)  # (B, N, S, H)
    if position_ids.numel() == 1:  # the first position, the others count on
        position_ids = position_ids.reshape(1, 1) + torch.arange(x.shape[2], device=x.device)
    cos, sin = cos_cache[position_ids.long()].unsqueeze(1), sin_cache[position_ids.long()].unsqueeze(1)  # (B, 1, S, R / 2)
    turned, rest = x[..., : 2 * half], x[..., 2 * half :]
    a, b = (turned[..., 0::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
    pair = (a * cos - b * sin, a * sin + b * cos)
    y = torch.stack(pair, -1).flatten(-2) if interleaved else torch.cat(pair, -1)
    y = torch.cat([y, rest], -1)
    return y if input.dim() == 4 else y.transpose(1, 2).flatten(2)

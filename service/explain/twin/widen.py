"""What torch has no kernel for in a narrow type, computed in a wider one and put back.

torch computes little in uint16, uint32, uint64 and in eight-bit floats; their values are exact in int64 and float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from service.explain.twin.dtypes import TORCH_BY_ONNX

_WIDER: Final[dict[torch.dtype, torch.dtype]] = {
    torch.bool: torch.int64,
    torch.uint8: torch.int64,
    torch.int8: torch.int64,
    torch.int16: torch.int64,
    torch.int32: torch.int64,
    torch.uint16: torch.int64,
    torch.uint32: torch.int64,
    torch.uint64: torch.int64,
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float8_e4m3fn: torch.float32,
    torch.float8_e4m3fnuz: torch.float32,
    torch.float8_e5m2: torch.float32,
    torch.float8_e5m2fnuz: torch.float32,
    torch.float8_e8m0fnu: torch.float32,
}


def widened(call: Callable[..., Any], inputs: Sequence[Any], makes: Sequence[int], error: Exception) -> tuple[Any, ...] | None:
    """`call` on wider inputs, its results in the types `makes` (TensorProto.DataType, 0 where unknown).

    None where that wouldn't help: `error` says something else than a missing kernel, or nothing can be widened exactly.
    """
    tensors = [t for i in inputs for t in (i if isinstance(i, list) else [i]) if isinstance(t, Tensor)]
    if not _no_kernel(error) or not any(t.dtype in _WIDER for t in tensors) or not all(_exact(t) for t in tensors):
        return None
    result = call(*([_wide(t) for t in i] if isinstance(i, list) else _wide(i) for i in inputs))
    results = result if isinstance(result, tuple) else (result,)
    kinds = [TORCH_BY_ONNX.get(m) for m in makes]
    kept = {t.dtype for t in tensors}
    default = kept.pop() if len(kept) == 1 else None
    return tuple(_narrow(r, k or default) for r, k in zip(results, [*kinds, *[None] * len(results)], strict=False))


def _no_kernel(error: Exception) -> bool:
    text = str(error)
    return any(words in text for words in ("not implemented for", "Promotion for", "not supported", "only supports"))


def _exact(x: Tensor) -> bool:
    """int64 holds a uint64 below 2**63 only."""
    return x.dtype is not torch.uint64 or not x.numel() or int(x.view(torch.int64).min()) >= 0


def _wide(x: Any) -> Any:
    return x.to(_WIDER.get(x.dtype, x.dtype)) if isinstance(x, Tensor) and x.dtype is not torch.bool else x


def _narrow(x: Any, kind: torch.dtype | None) -> Any:
    if isinstance(x, list):
        return [_narrow(v, kind) for v in x]
    return x.to(kind) if isinstance(x, Tensor) and kind is not None else x

"""ONNX element types as torch's, one table and its inverse, and values between numpy and torch."""

from __future__ import annotations

from typing import Any, Final

import ml_dtypes
import numpy as np
import torch
from onnx import TensorProto

TORCH_BY_ONNX: Final[dict[int, torch.dtype]] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.UINT8: torch.uint8,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT16: torch.uint16,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.BOOL: torch.bool,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.UINT32: torch.uint32,
    TensorProto.UINT64: torch.uint64,
    TensorProto.COMPLEX64: torch.complex64,
    TensorProto.COMPLEX128: torch.complex128,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.FLOAT8E4M3FN: torch.float8_e4m3fn,
    TensorProto.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    TensorProto.FLOAT8E5M2: torch.float8_e5m2,
    TensorProto.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
    TensorProto.FLOAT8E8M0: torch.float8_e8m0fnu,
}
ONNX_BY_TORCH: Final[dict[torch.dtype, int]] = {torch_type: onnx_type for onnx_type, torch_type in TORCH_BY_ONNX.items()}

# torch computes nothing in types below eight bits: their values are held in the narrowest type that it computes in.
HELD_BY_ONNX: Final[dict[int, torch.dtype]] = {
    TensorProto.INT4: torch.int8,
    TensorProto.UINT4: torch.uint8,
    TensorProto.INT2: torch.int8,
    TensorProto.UINT2: torch.uint8,
    TensorProto.FLOAT4E2M1: torch.float32,
}
RANGE_BY_ONNX: Final[dict[int, tuple[int, int]]] = {
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT4: (0, 15),
    TensorProto.INT2: (-2, 1),
    TensorProto.UINT2: (0, 3),
}
_NUMPY_BY_ONNX: Final[dict[int, np.dtype[Any]]] = {
    TensorProto.INT4: np.dtype(ml_dtypes.int4),
    TensorProto.UINT4: np.dtype(ml_dtypes.uint4),
    TensorProto.INT2: np.dtype(ml_dtypes.int2),
    TensorProto.UINT2: np.dtype(ml_dtypes.uint2),
    TensorProto.FLOAT4E2M1: np.dtype(ml_dtypes.float4_e2m1fn),
}
_HELD_BY_NAME: Final = {_NUMPY_BY_ONNX[kind].name: held for kind, held in HELD_BY_ONNX.items()}
# Types that numpy and torch both have but don't pass to each other: same bits, other names.
_BY_BITS: Final[dict[torch.dtype, np.dtype[Any]]] = {
    torch.bfloat16: np.dtype(ml_dtypes.bfloat16),
    torch.float8_e4m3fn: np.dtype(ml_dtypes.float8_e4m3fn),
    torch.float8_e4m3fnuz: np.dtype(ml_dtypes.float8_e4m3fnuz),
    torch.float8_e5m2: np.dtype(ml_dtypes.float8_e5m2),
    torch.float8_e5m2fnuz: np.dtype(ml_dtypes.float8_e5m2fnuz),
    torch.float8_e8m0fnu: np.dtype(ml_dtypes.float8_e8m0fnu),
}
_TORCH_BY_NAME: Final = {numpy_type.name: torch_type for torch_type, numpy_type in _BY_BITS.items()}
_BITS: Final = {1: np.uint8, 2: np.int16}


def torch_dtype(onnx_type: int) -> torch.dtype:
    """The torch type that holds a TensorProto.DataType. Raises NotImplementedError for those torch has none for (string)."""
    try:
        return HELD_BY_ONNX.get(onnx_type) or TORCH_BY_ONNX[onnx_type]
    except KeyError:
        raise NotImplementedError(f"torch has no element type for ONNX's {TensorProto.DataType.Name(onnx_type)}") from None


def limits(onnx_type: int) -> tuple[int, int]:
    """The least and the greatest value of an integer type."""
    if onnx_type in RANGE_BY_ONNX:
        return RANGE_BY_ONNX[onnx_type]
    info = torch.iinfo(torch_dtype(onnx_type))
    return info.min, info.max


def as_torch(value: Any) -> Any:
    """A numpy array as a tensor (of its memory where it may be written to), a list member by member; strings and what is
    no array stay as they are."""
    if isinstance(value, list | tuple):
        return [as_torch(v) for v in value]
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if not isinstance(value, np.ndarray) or value.dtype.kind in "OUS":
        return value
    name = value.dtype.name
    if name in _HELD_BY_NAME:
        return torch.from_numpy(np.array(value.astype(np.float32))).to(_HELD_BY_NAME[name])
    kept = value if value.flags.writeable and all(s >= 0 for s in value.strides) else value.copy()
    if name in _TORCH_BY_NAME:
        return torch.from_numpy(kept.view(_BITS[kept.dtype.itemsize])).view(_TORCH_BY_NAME[name])
    return torch.from_numpy(kept if kept.dtype.isnative else kept.astype(kept.dtype.newbyteorder("=")))


def as_numpy(value: Any, onnx_type: int = TensorProto.UNDEFINED) -> Any:
    """The inverse of `as_torch`; `onnx_type` tells a type below eight bits from the one that holds it."""
    if isinstance(value, list):
        return [as_numpy(v, onnx_type) for v in value]
    if not isinstance(value, torch.Tensor):
        return value
    tensor = value.detach().cpu().contiguous()
    if tensor.dtype in _BY_BITS:
        wanted = _BY_BITS[tensor.dtype]
        return tensor.view(torch.uint8 if wanted.itemsize == 1 else torch.int16).numpy().view(wanted)
    return tensor.numpy().astype(_NUMPY_BY_ONNX[onnx_type]) if onnx_type in _NUMPY_BY_ONNX else tensor.numpy()

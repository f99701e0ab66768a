"""ONNX element types as torch's, one table and its inverse."""

from __future__ import annotations

from typing import Final

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
}
ONNX_BY_TORCH: Final[dict[torch.dtype, int]] = {torch_type: onnx_type for onnx_type, torch_type in TORCH_BY_ONNX.items()}


def torch_dtype(onnx_type: int) -> torch.dtype:
    """The torch type of a TensorProto.DataType. Raises NotImplementedError for those torch has none for (string, 4-bit)."""
    try:
        return TORCH_BY_ONNX[onnx_type]
    except KeyError:
        raise NotImplementedError(f"torch has no element type for ONNX's {TensorProto.DataType.Name(onnx_type)}") from None

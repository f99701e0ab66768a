"""Matrix products; with constant weights an `nn.Linear`, which Captum's layer methods and LRP know."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from service.explain.twin.registry import Bound, Constant, Dynamic, are_constant, module_form, operator


@operator
def MatMul(A: Tensor, B: Tensor) -> Tensor:
    return torch.matmul(A, B)


@module_form(MatMul)
def matmul(A: Constant, B: Constant) -> Bound | None:
    if B is None or isinstance(B, Dynamic) or B.dim() != 2 or not B.is_floating_point():
        return None
    return Bound(as_linear(B.T, None))


@operator
def Gemm(
    A: Tensor,
    B: Tensor,
    C: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    broadcast: int = 1,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    """`broadcast`: until opset 6, and what happens anyway since."""
    product = torch.matmul(A.T if transA else A, B.T if transB else B)
    scaled = product if alpha == 1 else alpha * product
    if C is None:
        return scaled.to(A.dtype)
    return (scaled + (C if beta == 1 else beta * C)).to(A.dtype)


@module_form(Gemm)
def gemm(
    A: Constant,
    B: Constant,
    C: Constant = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    broadcast: int = 1,
    transA: int = 0,
    transB: int = 0,
) -> Bound | None:
    if B is None or isinstance(B, Dynamic) or isinstance(C, Dynamic) or not are_constant(B, C) or transA or not B.is_floating_point():
        return None
    weight = (B if transB else B.T) * alpha  # (outputs, inputs)
    if C is None:
        return Bound(as_linear(weight, None))
    if C.numel() not in (1, weight.shape[0]) or (C.dim() == 2 and C.shape[0] != 1):
        return None  # a bias that differs from row to row
    return Bound(as_linear(weight, (C.reshape(-1) * beta).expand(weight.shape[0])))


def as_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """An `nn.Linear` with weights of its own memory; `weight` (outputs, inputs), `bias` (outputs,)."""
    module = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    module.weight = nn.Parameter(weight.contiguous().clone())
    if bias is not None:
        module.bias = nn.Parameter(bias.contiguous().clone())
    return module


@operator
def Einsum(*Inputs: Tensor, equation: str) -> Tensor:
    return torch.einsum(equation, *Inputs)


@operator
def Det(X: Tensor) -> Tensor:
    determinant: Tensor = torch.linalg.det(X)
    return determinant

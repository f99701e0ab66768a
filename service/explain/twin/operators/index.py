"""Reading and writing by index. ONNX counts negative indices from the end, torch's gather and scatter don't."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from service.explain.twin.registry import Bound, Constant, Dynamic, module_form, operator


def _positive(indices: Tensor, size: int) -> Tensor:
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


@operator
def Gather(data: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    flat = data.index_select(axis, _positive(indices, data.shape[axis]).reshape(-1))
    axis %= data.dim()
    return flat.reshape((*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :]))


@module_form(Gather)
def embedding(data: Constant, indices: Constant, *, axis: int = 0) -> Bound | None:
    """A table of vectors read by row is an embedding."""
    if not isinstance(data, Tensor) or not data.is_floating_point() or data.dim() != 2 or axis or not isinstance(indices, Dynamic):
        return None
    rows = data.shape[0]
    return Bound(nn.Embedding(rows, data.shape[1], _weight=data.clone()), lambda module, i: module(_positive(i, rows)), takes=(1,))


@operator
def GatherElements(data: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    return data.gather(axis, _positive(indices, data.shape[axis]))


@operator
def GatherND(data: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    depth, b = indices.shape[-1], batch_dims
    batch = data.shape[:b]
    flat_data = data.reshape(-1, *data.shape[b:])  # (B, ..)
    flat_indices = indices.reshape(flat_data.shape[0], -1, depth)  # (B, K, depth)
    rows = torch.arange(flat_data.shape[0], device=data.device).unsqueeze(1)
    picked = flat_data[(rows, *(_positive(flat_indices[..., i], data.shape[b + i]) for i in range(depth)))]
    return picked.reshape((*batch, *indices.shape[b:-1], *data.shape[b + depth :]))


REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@operator
def ScatterElements(data: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none") -> Tensor:
    places = _positive(indices, data.shape[axis])
    if reduction == "none":
        return data.scatter(axis, places, updates)
    return data.scatter_reduce(axis, places, updates, REDUCE[reduction])


@operator
def Scatter(data: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0) -> Tensor:
    return ScatterElements(data, indices, updates, axis=axis)


@operator
def ScatterND(data: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none") -> Tensor:
    depth = indices.shape[-1]
    places = tuple(_positive(indices[..., i], data.shape[i]) for i in range(depth))
    if reduction == "none":
        return data.index_put(places, updates)
    if reduction == "add":
        return data.index_put(places, updates, accumulate=True)
    flat = torch.zeros_like(places[0])
    for place, size in zip(places, data.shape, strict=False):
        flat = flat * size + place
    rows = data.reshape(-1, *data.shape[depth:])
    values = updates.reshape(-1, *data.shape[depth:])
    index = flat.reshape(-1, *(1,) * (rows.dim() - 1)).expand(values.shape)
    return rows.scatter_reduce(0, index, values, REDUCE[reduction]).reshape(data.shape)


@operator
def OneHot(indices: Tensor, depth: Tensor, values: Tensor, *, axis: int = -1) -> Tensor:
    size = int(depth.reshape(()))
    axis %= indices.dim() + 1
    hit = torch.where(indices < 0, indices + size, indices).unsqueeze(axis)
    places = torch.arange(size, device=indices.device, dtype=indices.dtype).reshape(-1, *(1,) * (indices.dim() - axis))
    return torch.where(hit == places, values[1], values[0])


@operator
def NonZero(X: Tensor) -> Tensor:
    return torch.nonzero(X).T


@operator
def Compress(input: Tensor, condition: Tensor, *, axis: int | None = None) -> Tensor:
    places = torch.nonzero(condition).reshape(-1)
    return input.reshape(-1)[places] if axis is None else input.index_select(axis, places)


@operator
def TopK(X: Tensor, *, axis: int = -1, k: int) -> tuple[Tensor, Tensor]:
    return _top(X, k, axis, largest=True)


@operator
def TopK_10(X: Tensor, K: Tensor, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Tensor, Tensor]:
    return _top(X, int(K), axis, largest=bool(largest))


def _top(x: Tensor, k: int, axis: int, *, largest: bool) -> tuple[Tensor, Tensor]:
    # A stable sort: of equal elements the lower index comes first, which torch.topk doesn't promise.
    order = torch.sort(x, dim=axis, descending=largest, stable=True)
    return order.values.narrow(axis, 0, k), order.indices.narrow(axis, 0, k)


@operator
def Unique(X: Tensor, *, axis: int | None = None, sorted: int = 1, outputs: int = 1) -> tuple[Tensor, ...]:
    flat = X.reshape(-1) if axis is None else X
    _, inverse, counts = torch.unique(flat, return_inverse=True, return_counts=True, dim=0 if axis is None else axis)
    size = inverse.numel()
    first = torch.full_like(counts, size).scatter_reduce(0, inverse, torch.arange(size, device=X.device), "amin")
    if not sorted:
        order = torch.argsort(first)
        rank = torch.empty_like(order).scatter(0, order, torch.arange(order.numel(), device=X.device))
        first, counts, inverse = first[order], counts[order], rank[inverse]
    # Gathered, since torch.unique passes no gradient to the values.
    return (flat.index_select(axis or 0, first), first, inverse, counts)[:outputs]


def _sizes(data: Tensor, start: int, end: int | None) -> Sequence[int]:
    return data.shape[start:end]


@operator
def Shape(data: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    return torch.tensor(_sizes(data, start, end), dtype=torch.int64)


@operator
def Size(data: Tensor) -> Tensor:
    return torch.tensor(data.numel() if isinstance(data, Tensor) else data.size, dtype=torch.int64)

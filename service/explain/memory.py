"""How many rows a pass may hold: measured, since what autograd keeps for a row varies a thousandfold between models."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Saved:
    """Counts the bytes that autograd keeps for the backward pass, each storage once."""

    def __init__(self) -> None:
        self._storages: dict[int, int] = {}

    @property
    def bytes(self) -> int:
        return sum(self._storages.values())

    @contextmanager
    def counting(self, ignored: frozenset[int]) -> Iterator[None]:
        """Counts what the forward pass inside keeps, but the storages in `ignored` (weights, which no row adds to)."""

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in ignored:
                self._storages[storage.data_ptr()] = storage.nbytes()
            return tensor.detach()  # the tensor itself would hold the graph that holds it, for ever

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            yield


def rows_within(budget: int, bytes_a_row: int, most: int) -> int:
    """Rows a pass: what a row keeps, twice (the backward pass holds gradients of the same size), within the budget."""
    return max(1, min(most, budget // max(1, 2 * bytes_a_row)))


def trim() -> None:
    """Gives freed memory back: to the GPU, of which the server has the rest, and to the system, which glibc alone does late."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return

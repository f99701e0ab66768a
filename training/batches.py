"""Arrays in memory to batches: whole batches are indexed at once, in an order that only the seed and the epoch decide."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

Batch = tuple[Tensor, ...]


class Rows(Dataset[Batch]):
    """Rows of tensors of equal length, inputs first and the target last.

    `__getitems__` is what DataLoader calls with the indices of a whole batch: for data in memory that is many times
    faster than collating single rows.
    """

    def __init__(self, *columns: Tensor) -> None:
        lengths = {len(column) for column in columns}
        if len(lengths) != 1:
            raise ValueError(f"columns of different lengths: {[len(column) for column in columns]}")
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, index: int) -> Batch:
        return tuple(column[index] for column in self.columns)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        rows = torch.as_tensor(indices)
        return tuple(column[rows] for column in self.columns)


class EpochShuffle(Sampler[int]):
    """A permutation drawn from (seed, epoch) alone, so that a resumed run sees the batches that it would have seen.

    Lightning calls `set_epoch`, and in a run on several devices deals this order out to them.
    """

    def __init__(self, rows: int, seed: int) -> None:
        self.rows = rows
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return iter(torch.randperm(self.rows, generator=generator).tolist())


def loader(
    rows: Dataset[Batch], batch_size: int, *, shuffle_seed: int | None = None, collate: Callable[[Any], Batch] | None = None
) -> DataLoader[Batch]:
    """Batches of `rows`; shuffled anew each epoch, and the last partial batch dropped, where a `shuffle_seed` is given.

    `rows` must have `__len__`, and `__getitems__` returning a whole batch unless `collate` makes one of single rows.
    """
    sampler = None if shuffle_seed is None else EpochShuffle(len(rows), shuffle_seed)  # type: ignore[arg-type]  # Dataset declares no __len__
    return DataLoader(rows, batch_size=batch_size, sampler=sampler, drop_last=sampler is not None, collate_fn=collate or _whole_batch)


def _whole_batch(batch: Any) -> Batch:
    return tuple(batch)

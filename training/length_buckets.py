"""Batches of sentences of like length: a recurrent network takes as many steps as a batch's longest row has words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from training.batches import Batch, EpochShuffle, Rows

POOL = 20
"""Batches that are shuffled together before they are sorted by length: enough to sort by, few enough to stay random."""


class LengthBuckets(EpochShuffle):
    """An order drawn from (seed, epoch) alone, in which the rows of a batch are of like length and batches of any length follow
    each other."""

    def __init__(self, lengths: Tensor, batch_size: int, seed: int) -> None:
        super().__init__(len(lengths), seed)
        self.lengths = lengths
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[int]:
        order = torch.tensor(list(super().__iter__()))
        pools = [pool[self.lengths[pool].argsort(stable=True)] for pool in torch.split(order, POOL * self.batch_size)]
        batches = [batch for pool in pools for batch in torch.split(pool, self.batch_size)]
        whole = [batch for batch in batches if len(batch) == self.batch_size]
        rest = [batch for batch in batches if len(batch) < self.batch_size]
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        shuffled = [whole[index] for index in torch.randperm(len(whole), generator=generator)]
        return iter(torch.cat(shuffled + rest).tolist())


def bucketed(rows: Rows, batch_size: int, seed: int) -> DataLoader[Batch]:
    """Training batches of `rows` (tokens (N, T), lengths (N,), target (N,)), cut to their longest row; a last partial batch is
    left out."""
    sampler = LengthBuckets(rows.columns[1], batch_size, seed)
    return DataLoader(rows, batch_size=batch_size, sampler=sampler, drop_last=True, collate_fn=cut_to_longest)


def cut_to_longest(batch: Any) -> Batch:
    """(tokens, lengths, target) without the columns that are padding in every row."""
    tokens, lengths, target = batch
    return tokens[:, : int(lengths.max())], lengths, target

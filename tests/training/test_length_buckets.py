"""Batches of like length: complete, random, repeatable."""

from __future__ import annotations

import torch

from training.batches import Rows
from training.length_buckets import LengthBuckets, bucketed, cut_to_longest

LENGTHS = torch.randint(1, 50, (1003,), generator=torch.Generator().manual_seed(0))


def test_every_row_comes_once_and_another_epoch_is_another_order() -> None:
    sampler = LengthBuckets(LENGTHS, 16, seed=3)
    first = list(sampler)
    assert sorted(first) == list(range(1003))
    assert list(LengthBuckets(LENGTHS, 16, seed=3)) == first
    sampler.set_epoch(1)
    assert list(sampler) != first


def test_batches_are_of_like_length_and_not_in_order_of_length() -> None:
    batches = torch.split(LENGTHS[list(LengthBuckets(LENGTHS, 16, seed=0))], 16)[:-1]
    spread = torch.stack([batch.max() - batch.min() for batch in batches]).float().mean()
    assert spread < 6  # at random: about 45
    means = torch.stack([batch.float().mean() for batch in batches])
    assert means.diff().abs().mean() > 8


def test_batches_are_cut_to_their_longest_row() -> None:
    tokens = torch.arange(50).lt(LENGTHS[:, None]).long()
    loader = bucketed(Rows(tokens, LENGTHS, LENGTHS), 16, seed=0)
    batches = list(loader)
    assert len(batches) == 1003 // 16
    for rows, lengths, _ in batches:
        assert rows.shape == (16, lengths.max())
        assert torch.equal(rows.sum(1), lengths)


def test_cutting_takes_padding_only() -> None:
    tokens, _, _ = cut_to_longest((torch.tensor([[1, 2, 0, 0], [3, 0, 0, 0]]), torch.tensor([2, 1]), torch.tensor([0, 1])))
    assert tokens.tolist() == [[1, 2], [3, 0]]

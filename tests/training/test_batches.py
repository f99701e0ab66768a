"""Batches: whole, in an order that seed and epoch decide."""

from __future__ import annotations

import pytest
import torch

from training.batches import EpochShuffle, Rows, loader


def test_a_shuffled_epoch_holds_every_row_beside_its_own_target():
    rows = Rows(torch.arange(12.0) * 10, torch.arange(12))
    batches = list(loader(rows, 4, shuffle_seed=0))
    assert [len(target) for _, target in batches] == [4, 4, 4]
    for value, target in batches:
        torch.testing.assert_close(value, target * 10.0)
    assert sorted(torch.cat([target for _, target in batches]).tolist()) == list(range(12))


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochShuffle(50, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)


def test_without_shuffling_rows_stay_in_order_and_none_is_dropped():
    (first,), (second,) = loader(Rows(torch.arange(5)), 3)
    assert (first.tolist(), second.tolist()) == ([0, 1, 2], [3, 4])


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"different lengths: \[3, 2\]"):
        Rows(torch.zeros(3), torch.zeros(2))

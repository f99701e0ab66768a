"""What is asked for asynchronously: whose it is, how long it is kept, how much of it there may be."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import NotFound, ShareUsedUp, TooLarge, Unavailable
from service.explanations.store import Store, StoreLimits
from service.telemetry import Metrics


def store(most: int = 2, size: int = 1000, seconds: float = 60) -> Store[str]:
    return Store(StoreLimits(most, size, seconds), Metrics())


async def answer() -> str:
    return "found"


async def endless() -> str:
    await asyncio.Event().wait()
    return "never"


async def test_it_is_its_owners_alone():
    kept = store()
    stored = kept.add("one", 10, answer())
    assert kept.get("one", stored.id) is stored
    for owner, identifier in (("two", stored.id), ("", stored.id), ("one", stored.id + "x")):
        with pytest.raises(NotFound):
            kept.get(owner, identifier)
    assert await stored.task == "found"
    await kept.close()


async def test_ids_cannot_be_guessed():
    kept = store(most=100)
    ids = {kept.add("", 1, answer()).id for _ in range(50)}
    assert len(ids) == 50
    assert min(map(len, ids)) >= 32
    await kept.close()


async def test_it_is_kept_for_a_while_after_it_was_computed():
    kept = store(seconds=0.05)
    stored, running = kept.add("", 10, answer()), kept.add("", 10, endless())
    await stored.task
    assert kept.get("", stored.id)
    await asyncio.sleep(0.2)
    with pytest.raises(NotFound):
        kept.get("", stored.id)
    assert kept.get("", running.id)  # its time begins when it is done
    await kept.close()


async def test_a_full_store_refuses_and_says_when_there_is_room():
    kept = store()
    kept.require_room("", 600)
    first = kept.add("", 600, endless())
    with pytest.raises(Unavailable, match="_MIB") as by_size:
        kept.require_room("", 600)
    assert by_size.value.retry_after == 1
    second = kept.add("", 10, answer())
    await second.task
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="STORED_EXPLANATIONS") as by_number:
        kept.require_room("", 10)
    assert 55 <= (by_number.value.retry_after or 0) <= 61
    with pytest.raises(TooLarge, match="respond-async"):
        kept.require_room("", 1001)
    kept.remove(first)
    kept.require_room("", 600)
    await kept.close()


async def test_what_is_removed_is_cancelled_and_closing_leaves_nothing():
    kept = store()
    first, second = kept.add("", 10, endless()), kept.add("", 10, endless())
    kept.remove(first)
    await asyncio.wait([first.task])
    assert first.task.cancelled()
    await kept.close()
    assert second.task.cancelled()


async def test_a_key_keeps_its_share_and_leaves_room_for_others():
    kept: Store[str] = Store(StoreLimits(4, 1000, 60, share=0.5), Metrics())
    kept.require_room("ann", 900)  # what comes first may be larger than a share
    first = kept.add("ann", 300, endless())
    with pytest.raises(ShareUsedUp, match="KEY_SHARE") as by_size:
        kept.require_room("ann", 201)
    assert by_size.value.retry_after == 1
    kept.require_room("ann", 200)
    second = kept.add("ann", 10, answer())
    await second.task
    await asyncio.sleep(0)
    with pytest.raises(ShareUsedUp) as by_number:
        kept.require_room("ann", 10)
    assert 55 <= by_number.value.retry_after <= 61
    kept.require_room("bob", 600)
    kept.remove(first)
    kept.require_room("ann", 10)
    await kept.close()


async def test_without_keys_there_are_no_shares_of_the_store():
    kept: Store[str] = Store(StoreLimits(2, 1000, 60, share=0.5), Metrics())
    kept.add("", 10, endless())
    kept.require_room("", 900)
    await kept.close()

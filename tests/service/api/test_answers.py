"""Long JSON, written in pieces, is the same JSON."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

from service.api.answers import json_answer, long_json_answer


@pytest.mark.parametrize("shape", [(3,), (20_000,), (224, 224, 3), (3, 224, 224), (1, 1, 40_000), (0,), (2, 1)])
async def test_the_same_bytes(shape: tuple[int, ...]):
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    document = {"a": [{"attributions": {"x": array}, "n": 1}, {"attributions": array}], "b": [1, 2]}
    answer = await long_json_answer(document)
    assert answer.body == json_answer(document).body
    back = np.array(json.loads(answer.body)["a"][1]["attributions"], np.float32)
    np.testing.assert_array_equal(back, array)


async def test_others_have_their_turn_meanwhile():
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await long_json_answer({"x": np.zeros((224, 224, 3), np.float32)})
    task.cancel()
    assert turns >= 5

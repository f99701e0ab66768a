"""Explanations that were computed before: the least recently used ones go when their bytes are too many."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import orjson

from service.explain.answer import Explanation
from service.explanations.key import Key
from service.telemetry import Metrics

_OVERHEAD = 1024
"""Bytes of an entry beside its arrays and the text of its fields."""


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    explanation: Explanation
    size: int


class Cache:
    """Holds at most `most` bytes; 0 holds nothing."""

    def __init__(self, most: int, metrics: Metrics) -> None:
        self._most = most
        self._metrics = metrics
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._size = 0
        metrics.cache_bytes.set_function(lambda: self._size)

    def get(self, key: Key) -> Explanation | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        self._metrics.cache_hits.inc()
        return entry.explanation

    def put(self, key: Key, explanation: Explanation) -> None:
        """Keeps an explanation that would come out the same again; one that time cut short would not."""
        if not self._most or not _repeatable(explanation):
            return
        entry = _entry(explanation)
        if entry.size > self._most:
            return
        if (replaced := self._entries.pop(key, None)) is not None:
            self._size -= replaced.size
        self._entries[key] = entry
        self._size += entry.size
        while self._size > self._most:
            _, oldest = self._entries.popitem(last=False)
            self._size -= oldest.size
            self._metrics.cache_evicted.inc()


def _repeatable(explanation: Explanation) -> bool:
    fields = explanation.fields
    quality = fields.get("quality")
    return explanation.attributions is not None and not fields["timed_out"] and (quality is None or bool(quality["complete"]))


def _entry(explanation: Explanation) -> _Entry:
    assert explanation.attributions is not None
    # Copies: an array as it arrived is a view of the whole answer, with all of its rows.
    arrays = {name: np.array(array) for name, array in explanation.attributions.items()}
    for array in arrays.values():
        array.setflags(write=False)  # it is handed to many
    size = sum(array.nbytes for array in arrays.values()) + len(orjson.dumps(dict(explanation.fields))) + _OVERHEAD
    return _Entry(Explanation(arrays, explanation.fields), size)

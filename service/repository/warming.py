"""A model's first runs, made before anybody asks: ONNX Runtime plans memory a shape, and CUDA captures its graphs then."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from service.codecs.instance import graph_inputs
from service.engine.limits import UNMEASURED, largest_batch
from service.engine.session import OutOfMemory, Session
from service.manifest import Manifest
from service.repository.bundle import BadBundle

log = logging.getLogger("whyserve")

LENGTHS = (7, 32, 128, 1024, 16000)
"""What sizes without a longest are set to, until the model takes one."""
SECONDS = 0.25
"""That warming the larger batches may take."""
_LARGEST_ROW = 2**30
"""Bytes; a file of a few bytes may declare more, which nobody could send."""
_TRIED_BYTES = 64 * 2**20
"""A longer row isn't tried."""
_TRIED_ROWS = 64
"""At most, where the manifest names no largest batch."""
_RUNS = 2
"""Of each batch size: the first plans memory for its shape, the second is the first that uses the plan."""

Feeds = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Warmth:
    """`seconds` of the fastest run of the smallest batch of the longest rows; infinity where that isn't known."""

    seconds: float
    taken: Mapping[int, float] = field(default_factory=dict)
    """Seconds of the fastest run by its number of rows."""

    def largest_batch(self, manifest: Manifest, session: Session) -> int:
        """Rows of a run at most. Where rows depend on one another, or the graph fixes their number, time changes nothing: there a
        request's rows can't be run apart."""
        batching = manifest.batching
        if (fixed := _fixed(session)) or not batching.rows_independent:
            return batching.max or fixed or UNMEASURED
        return largest_batch(batching.max, self.taken if self.seconds < math.inf else {}, batching.max_ms / 1e3)


def warm_up(manifest: Manifest, session: Session, clock: Callable[[], float] = time.perf_counter) -> Warmth:
    """Runs the model on zeros in the batch sizes that will come: 1, 2, 4, .. up to its largest batch, as far as `SECONDS` reach.

    Raises BadBundle where one row is beyond all measure.
    """
    smallest, *larger = _sizes(manifest, session)
    length = next((length for length in _lengths(manifest) if _runs(session, _zeros(manifest, smallest, length))), None)
    if length is None:
        return Warmth(math.inf)
    feeds = _zeros(manifest, smallest, length)
    seconds = min(_taken(session, feeds, clock) for _ in range(_RUNS))
    taken = {smallest: seconds}
    left = SECONDS
    for rows in larger:
        if seconds * _RUNS * rows / smallest > left:  # as if rows in a batch cost what they cost alone
            break
        feeds = _zeros(manifest, rows, length)
        try:
            runs = [_taken(session, feeds, clock) for _ in range(_RUNS)]
        except Exception as error:
            log.warning("%s runs with %d rows, and not with %d: %s", manifest.name, max(taken), rows, error)
            break
        left -= sum(runs)
        taken[rows] = min(runs)
    return Warmth(seconds if _has_longest(manifest) else math.inf, taken)


def _sizes(manifest: Manifest, session: Session) -> list[int]:
    """Rows of the batches that will come: what the graph fixes, else powers of two and the largest."""
    if fixed := _fixed(session):
        return [fixed]
    most = manifest.batching.max or _TRIED_ROWS if manifest.batching.rows_independent else 1
    return [*(2**k for k in range((most - 1).bit_length())), most]


def _fixed(session: Session) -> int | None:
    """The number of rows that the graph fixes."""
    return max((info.shape[0] for info in session.inputs if info.shape and info.shape[0] is not None), default=None)


def _longest(manifest: Manifest) -> dict[str, int]:
    return {i.name: i.text.max_length for i in manifest.inputs if i.text}


def _has_longest(manifest: Manifest) -> bool:
    longest = _longest(manifest)
    return all(i.dtype != "string" and (None not in i.shape or i.name in longest) for i in graph_inputs(manifest))


def _lengths(manifest: Manifest) -> Iterator[int]:
    """What sizes that vary without bound are tried with. Raises BadBundle where even the others are beyond all measure."""
    for length in LENGTHS[:1] if _has_longest(manifest) else LENGTHS:
        row = sum(
            math.prod(size or _longest(manifest).get(i.name, length) for size in i.shape) * _bytes_an_element(i.dtype)
            for i in graph_inputs(manifest)
        )
        if row > _LARGEST_ROW and length == LENGTHS[0]:
            raise BadBundle(f"the inputs claim {row / 2**20:.0f} MiB a row, at most {_LARGEST_ROW >> 20} MiB can be served")
        if row <= _TRIED_BYTES:
            yield length


def _bytes_an_element(dtype: str) -> int:
    return 8 if dtype == "string" else np.dtype(dtype).itemsize


def _zeros(manifest: Manifest, rows: int, length: int) -> Feeds:
    """Arrays (rows, ..) of zeros, or of empty strings; the lengths of texts are those of the whole rows."""
    longest = _longest(manifest)
    lengths = {i.text.lengths: i.text.max_length for i in manifest.inputs if i.text and i.text.lengths}
    return {
        i.name: np.full(
            (rows, *(size or longest.get(i.name, length) for size in i.shape)),
            "" if i.dtype == "string" else lengths.get(i.name, 0),
            np.object_ if i.dtype == "string" else i.dtype,
        )
        for i in graph_inputs(manifest)
    }


def _runs(session: Session, feeds: Feeds) -> bool:
    """Whether the model takes these inputs. Raises BadBundle where they are more than its memory."""
    try:
        session.run(feeds)
    except OutOfMemory as error:
        raise BadBundle(f"{len(next(iter(feeds.values())))} row(s) of zeros are too much: {error}") from None
    except Exception:
        return False
    return True


def _taken(session: Session, feeds: Feeds, clock: Callable[[], float]) -> float:
    started = clock()
    session.run(feeds)
    return clock() - started

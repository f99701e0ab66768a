"""How gradients are computed fastest: how many rows a pass takes and in which precision, measured on this machine when a model is loaded.

A pass of few rows pays for every operator's call anew, one of many pushes what the backward pass reads out of the caches: a
ResNet-18's row costs least in passes of some eight, a small network's in much longer ones. Measured in processor time of the thread:
what else the machine does meanwhile says nothing of the model. On a GPU, by the clock: a pass is over when its gradients have come back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter, thread_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import WhyserveError
from service.explain.cancel import Token
from service.explain.device import CPU, Device
from service.explain.gradient_graph import GradientGraph, inputs_of
from service.explain.memory import Saved, rows_within
from service.explain.subject import Form, Subject
from service.explain.trial import with_gradients
from service.explain.twin import Twin, mixed

Arrays = Mapping[str, NDArray[Any]]
WITHIN = 1.05
"""The smallest size that takes at most this many times the least time a row is taken: it holds less memory."""
TURNS = 3
"""The first one of a size also prepares it; the least of the others counts, since what else the machine does only adds."""
NEAR = 1.2
"""Sizes that take up to so many times the least time a row are measured again."""
SLOWER = 2
"""So many sizes in a row without a gain end the search."""
WEIGHTY = 4 * 2**20
"""Bytes that a row keeps for the pass backward from which on mixed precision is tried: a smaller one's time is in calling operators."""
GAIN = 1.1
"""So many times faster than in float32 must passes in mixed precision be to be worth their rounding, and those of a gradient graph to be
worth its session."""
COMPARED = 16
"""Rows at which the twin and a gradient graph are compared: about as many as an explanation takes."""
GRAPH = 8 * 2**20
"""Bytes that a gradient graph's pass may hold at most: ONNX Runtime keeps them for the next one."""


@dataclass(frozen=True, slots=True, eq=False)
class Pace:
    chunk: int
    """Rows of gradients a pass."""
    mixed: Twin | None = None
    """In mixed precision, where that is faster."""
    mixed_from: int = 1
    """Rows from which on it is: how far they are off is checked by a row in float32."""
    graph: GradientGraph | None = None
    """Where it is faster than the twin."""


def pace_of(subject: Subject, row: Arrays, memory: int, token: Token, graph: GradientGraph | None = None) -> Pace:
    """By repeating a trial row (1, ..), in passes of at most `memory` bytes; each is a step of `token`. One row a pass where rows can't
    share one, or where that is no row that the model takes."""
    slow = Pace(1)
    if not subject.status.usable or subject.status.one_row or not subject.manifest.batching.rows_independent:
        return slow
    try:
        ran = subject.served.run(row)  # one row: ONNX Runtime would keep the memory of a large batch
        saved = Saved()
        with saved.counting(subject.weights):
            with_gradients(subject, row, ran)

        def run(rows: int) -> None:
            token.check()
            with_gradients(subject, _repeated(row, rows), _repeated(ran, rows))

        device = subject.device
        most = rows_within(device.pass_memory(memory), saved.bytes, device.passes[-1])
        if graph is not None and saved.bytes < WEIGHTY:
            inputs = inputs_of(subject, row, ran)

            def run_graph(rows: int) -> None:
                token.check()
                graph.run(_repeated(inputs, rows), np.ones((rows, *graph.row), np.float32))

            some = min(COMPARED, most)
            if quickest(partial(run_graph, some)) * GAIN <= quickest(partial(run, some)):
                return Pace(fastest(run_graph, rows_within(min(GRAPH, memory), saved.bytes, most)), graph=graph)
        chunk = fastest(run, most, device)
        return _with_mixed(subject, row, ran, chunk) if saved.bytes >= WEIGHTY else Pace(chunk)
    except (WhyserveError, RuntimeError, ValueError, IndexError, MemoryError):
        return slow


def _with_mixed(subject: Subject, row: Arrays, ran: Arrays, chunk: int) -> Pace:
    """With the twin in mixed precision, where passes of so many of this row (1, ..) are faster in it."""
    made = mixed(subject.twin)
    if made is None:
        return Pace(chunk)
    tried = replace(subject, mixed=made, segments={})

    def seconds(rows: int, form: Form) -> float:
        return quickest(partial(with_gradients, tried, _repeated(row, rows), _repeated(ran, rows), form), subject.device)

    folded, other = seconds(chunk, "folded"), seconds(chunk, "mixed")
    if other * GAIN >= folded:
        return Pace(chunk)
    return Pace(chunk, made, int(seconds(1, "folded") * chunk / (folded - other)) + 1)


def fastest(run: Callable[[int], None], most: int, device: Device = CPU) -> int:
    """The size among the device's `passes`, at most `most`, at which `run(size)` takes the least time a row."""
    seconds: dict[int, float] = {}
    for size in (size for size in device.passes if size <= max(1, most)):
        seconds[size] = quickest(partial(run, size), device) / size
        if len(seconds) > SLOWER and min(list(seconds.values())[-SLOWER:]) > min(seconds.values()):
            break
    near = [size for size, each in seconds.items() if each <= NEAR * min(seconds.values())]
    for size in reversed(near):  # the other way round: the machine's own speed may have changed meanwhile, for one size and not for another
        seconds[size] = min(seconds[size], quickest(partial(run, size), device) / size)
    return next(size for size, each in seconds.items() if each <= WITHIN * min(seconds.values()))


def quickest(run: Callable[[], object], device: Device = CPU) -> float:
    """Seconds that it takes at its quickest: of this thread on the CPU, by the clock on a GPU."""
    return min(_timed(run, perf_counter if device.on_gpu else thread_time) for _ in range(TURNS))


def _timed(run: Callable[[], object], clock: Callable[[], float]) -> float:
    started = clock()
    run()
    return clock() - started


def _repeated(arrays: Arrays, rows: int) -> dict[str, NDArray[Any]]:
    return {name: np.repeat(array, rows, 0) if array.ndim else array for name, array in arrays.items()}

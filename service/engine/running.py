"""How a model's inputs reach ONNX Runtime and its outputs come back: as they are, or through buffers on a device.

CUDA graphs as ONNX Runtime's `CUDA-ExecutionProvider.md` has them: a captured run is replayed on the very addresses it was
captured with, and ONNX Runtime doesn't check shapes against a graph's id. So each set of buffers has an id of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

import numpy as np
import onnxruntime as ort

log = logging.getLogger("whyserve")

KEPT = 16
"""Batch sizes with buffers of their own; the warm-up's are the first. Others are run without."""

_GRAPH_ID = "gpu_graph_id"
_NO_GRAPH = "-1"
_TRIED_ROWS, _TRIALS = 2, 3
_CLOSE = {"rtol": 1e-2, "atol": 1e-3}
"""What two algorithms for the same product may differ by; what a buffer held before differs by more."""

Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A graph input or output: `shape` with the batch axis, None where a size varies."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A device as ONNX Runtime names it: `cuda` or `cpu`, and its number."""

    kind: str
    index: int = 0


class Running(Protocol):
    """A way to run a model."""

    def run(self, feeds: Feeds) -> list[np.ndarray]:
        """Outputs in the graph's order; the caller's own, no later run changes them. Raises ONNX Runtime's errors."""


def on_device(
    session: ort.InferenceSession,
    capturing: Callable[[], ort.InferenceSession],
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
    place: Place,
) -> Running:
    """The fastest way that gives the right outputs, by trial: CUDA graphs, buffers without them, the direct way.

    `capturing` opens the model with `enable_cuda_graph`, which ONNX Runtime refuses where a node isn't on the GPU.
    """
    if not Bound.fits(inputs, outputs):
        return Direct(session)
    for what, opened, graphs in (("CUDA graphs", capturing, True), ("buffers of its own", lambda: session, False)):
        try:
            bound = Bound(opened(), inputs, outputs, place, graphs=graphs)
            if _agrees(bound, inputs):
                return bound
            reason = "what it gives then differs"
        except Exception as error:  # of ONNX Runtime's many classes; the model itself was opened, so it runs without
            reason = str(error)[:400]
        log.info("a model runs on %s without %s: %s", place.kind, what, reason)
    return Direct(session)


def _agrees(bound: Bound, inputs: Sequence[TensorInfo]) -> bool:
    """Whether runs on buffers that were used before give what direct runs give."""
    numbers = np.random.default_rng(0)
    for scale in range(_TRIALS):
        # Whole numbers are indices: 0 to 2 are rows that nearly every table has.
        drawn = {info: scale * numbers.random(_sized(info, _TRIED_ROWS)) for info in inputs}
        feeds = {
            info.name: (array if info.dtype.startswith("float") else array.round()).astype(info.dtype) for info, array in drawn.items()
        }
        pairs = zip(bound.run(feeds), bound.run_directly(feeds), strict=True)
        if not all(got.shape == wanted.shape and np.allclose(got, wanted, equal_nan=True, **_CLOSE) for got, wanted in pairs):
            return False
    return True


class Direct:
    """Arrays as they are: on the CPU no input is copied."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._names = [output.name for output in session.get_outputs()]

    def run(self, feeds: Feeds) -> list[np.ndarray]:
        return self._session.run(self._names, feeds)  # type: ignore[no-any-return]


class Bound:
    """Inputs and outputs in buffers on a device, made once a batch size and used by every run of it (IO binding).

    With `graphs` the session was made with `enable_cuda_graph`: the runs of each batch size are captured once and replayed. One
    run at a time; what `fits` refuses and batch sizes beyond the `kept` first go the direct way.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
        place: Place,
        *,
        graphs: bool = False,
        kept: int = KEPT,
    ) -> None:
        self._session = session
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        self._place = place
        self._graphs = graphs
        self._most = kept
        self._kept: dict[int, _Buffers] = {}
        self._lock = Lock()

    @staticmethod
    def fits(inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> bool:
        """Whether nothing but the number of rows varies, and numpy has every type."""
        tensors = (*inputs, *outputs)
        return bool(inputs) and all(
            info.shape and None not in info.shape[1:] and info.dtype not in ("string", "bfloat16") for info in tensors
        )

    def run(self, feeds: Feeds) -> list[np.ndarray]:
        rows = len(next(iter(feeds.values())))
        with self._lock:
            buffers = self._kept.get(rows)
            if buffers is None and len(self._kept) < self._most and self._declared(feeds, rows):
                buffers = _Buffers(self._session, self._inputs, self._outputs, self._place, rows, self._options(str(len(self._kept) + 1)))
                self._kept[rows] = buffers
            if buffers is None or not self._declared(feeds, rows):
                return self._direct(feeds)
            return buffers.run(feeds)

    def run_directly(self, feeds: Feeds) -> list[np.ndarray]:
        """The same without buffers and graphs."""
        with self._lock:
            return self._direct(feeds)

    def _direct(self, feeds: Feeds) -> list[np.ndarray]:
        names = [info.name for info in self._outputs]
        return self._session.run(names, feeds, self._options(_NO_GRAPH))  # type: ignore[no-any-return]

    def _declared(self, feeds: Feeds, rows: int) -> bool:
        """Whether these are arrays as declared: a buffer must never be filled from another shape or type."""
        return feeds.keys() == {info.name for info in self._inputs} and all(
            feeds[info.name].shape == _sized(info, rows) and feeds[info.name].dtype == np.dtype(info.dtype) for info in self._inputs
        )

    def _options(self, graph_id: str) -> ort.RunOptions:
        options = ort.RunOptions()
        if self._graphs:
            options.add_run_config_entry(_GRAPH_ID, graph_id)
        return options


class _Buffers:
    """Buffers of one batch size, bound."""

    def __init__(
        self,
        session: ort.InferenceSession,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
        place: Place,
        rows: int,
        options: ort.RunOptions,
    ) -> None:
        self._session, self._options = session, options
        self._binding = session.io_binding()
        self._shared = place.kind == "cpu"
        self._inputs = {info.name: _buffer(info, rows, place) for info in inputs}
        self._outputs = [_buffer(info, rows, place) for info in outputs]
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for info, value in zip(outputs, self._outputs, strict=True):
            self._binding.bind_ortvalue_output(info.name, value)

    def run(self, feeds: Feeds) -> list[np.ndarray]:
        for name, value in self._inputs.items():
            value.update_inplace(np.ascontiguousarray(feeds[name]))
        self._session.run_with_iobinding(self._binding, self._options)
        # From a GPU `numpy` copies; on the CPU it shows the buffer, which the next run overwrites.
        return [value.numpy().copy() if self._shared else value.numpy() for value in self._outputs]


def _buffer(info: TensorInfo, rows: int, place: Place) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_shape_and_type(_sized(info, rows), np.dtype(info.dtype).type, place.kind, place.index)


def _sized(info: TensorInfo, rows: int) -> tuple[int, ...]:
    """The declared shape at a number of rows; a batch size that the graph fixes stays as it is."""
    return tuple(rows if size is None else size for size in info.shape)

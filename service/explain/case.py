"""One row on its way to its explanation: what is asked of it, F by the served model and by the twin, and what it is compared with."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.explain import baselines, scalar, slopes
from service.explain.cancel import Token
from service.explain.memory import Saved, rows_within
from service.explain.methods.request import ExplainRequest
from service.explain.once import once
from service.explain.parity import parity_error
from service.explain.scalar import Scalar
from service.explain.slopes import Rows
from service.explain.subject import Form, Subject, attributed
from service.manifest import Output

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Tensors = tuple[Tensor, ...]
Read = Callable[[Arrays], Array]
"""Something (N, ..) of what the served model answered, by tensor name (N, ..)."""
FORWARD_ROWS = 32
"""Rows of a forward pass of the served model, which keeps nothing for a backward one."""
USUAL = 32
"""Rows that a pass may have however large they are."""
BASELINES = 256
"""Baselines whose F is remembered."""
FORWARD_SHARE = 4
"""It may hold this part of a pass's memory: ONNX Runtime doesn't give it back, and more rows of a large model aren't faster."""


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """The baseline of a case."""

    described: Any
    """As an answer's `parameters` names it."""
    point: Tensors
    """(1, ..) each: the attributed tensors there."""
    output: float
    """F there."""


class Case:
    """A request for one row of a subject. `feeds` (1, ..) by graph input.

    The *attributed tensors* are the float inputs themselves and, for a discrete input, the tensor at its `attribute_at`;
    F is the explained scalar. Construction raises BadParameter and UnknownChoice (target, output).
    """

    def __init__(self, subject: Subject, request: ExplainRequest, feeds: Arrays, target: Any, token: Token, memory: int) -> None:
        self.started = time.perf_counter()
        self.subject = subject
        self.request = request
        self.feeds = feeds
        self.target = target
        self.token = token
        self.memory = memory
        self.form: Form = "folded"
        """Of the twin, that gradients are asked of."""
        self.rounding = 0.0
        """How far gradients in mixed precision are off, relative (L2), as the instance's showed."""
        self.ran = subject.served.run(feeds)
        """What the served model answered: outputs and attributed tensors."""
        name = request.parameters.output or subject.manifest.outputs[0].name
        self.output: Output = next(o for o in subject.manifest.outputs if o.name == name)
        self.scalar: Scalar = scalar.choose(subject.manifest, self.output, request.parameters.explained, target, self.ran, subject.logits)

    # ------------------------------------------------------------------------------------------------- where it stands

    @once
    def point(self) -> Tensors:
        """The attributed tensors (1, ..)."""
        return tuple(attributed(self.subject, self.feeds, self.ran))

    @once
    def others(self) -> Tensors:
        """The graph inputs (1, ..) that F takes beside the attributed tensors."""
        return tuple(torch.from_numpy(self.feeds[name].copy()) for name in self.subject.others)

    @once
    def instance_output(self) -> float:
        """F of the instance, by the served model."""
        return float(self.scalar.of_array(self.ran[self.scalar.tensor])[0])

    @once
    def chosen(self) -> dict[str, baselines.Chosen]:
        """The baseline of each attributed input, as asked for or as the manifest says. Raises BadParameter, UnknownChoice."""
        return baselines.choose(self.request, self.subject.manifest, list(self.subject.at), self.feeds)

    @once
    def baseline(self) -> Compared:
        """The baseline at the attributed tensors: filled there, or what the served model makes of the inputs' baseline."""
        chosen = self.chosen
        replaced = {name: np.ascontiguousarray(c.input) for name, c in chosen.items() if c.input is not None}
        ran = self.subject.served.run({**self.feeds, **replaced}) if replaced else self.ran
        tensors = attributed(self.subject, {**self.feeds, **replaced}, ran) if replaced else self.point
        point = tuple(
            t if chosen[name].input is not None else torch.full_like(t, chosen[name].fill)
            for name, t in zip(self.subject.at, tensors, strict=True)
        )
        if len(replaced) == len(chosen):  # what the served model makes of it has just been asked
            return Compared(baselines.described(chosen), point, float(self.f(ran)[0]))
        return Compared(
            baselines.described(chosen), point, self._output_at(point, () if replaced else tuple(c.fill for c in chosen.values()))
        )

    def _output_at(self, point: Tensors, fills: tuple[float, ...]) -> float:
        """F at the baseline, by the served model. Where it is nothing but `fills`, all instances of a shape have the same: asked once."""
        if not fills or self.subject.others:
            return float(self.served(point)[0])
        known, asked = self.subject.baseline_outputs, (fills, tuple(t.shape for t in point), repr(self.scalar))
        if asked not in known:
            if len(known) >= BASELINES:
                known.clear()
            known[asked] = float(self.served(point)[0])
        return known[asked]

    def until(self, token: Token) -> Case:
        """The same case in another time."""
        other = copy.copy(self)
        other.token = token
        return other

    def in_form(self, form: Form) -> Case:
        """The same case, gradients asked of another form of the twin."""
        other = copy.copy(self)
        other.form, other.rounding = form, 0.0
        return other

    def neighbour(self, point: Tensors) -> Case:
        """The same question, target and baseline for attributed tensors (1, ..) somewhere else."""
        _ = self.baseline, self.rows if self.request.method.needs_twin else None  # the neighbour shares what is known of them
        other = copy.copy(self)
        arrays = {name: t.numpy() for name, t in zip(self.subject.at, point, strict=True)}
        other.feeds = {**self.feeds, **{name: array for name, array in arrays.items() if self.subject.at[name] == name}}
        other.ran = {**self.ran, **self._tail(point), **{self.subject.at[name]: array for name, array in arrays.items()}}
        for known in ("point", "instance_output"):
            other.__dict__.pop(known, None)
        return other

    # ------------------------------------------------------------------------------------------------ the served model

    @once
    def forward_rows(self) -> int:
        """Most rows of a pass of the served model: one where rows depend on each other."""
        if not self.subject.manifest.batching.rows_independent:
            return 1
        own = sum(array.nbytes for array in (*self.feeds.values(), *self.ran.values()))
        return rows_within(self.memory // FORWARD_SHARE, max(own, self.subject.served.bytes_a_row), FORWARD_ROWS)

    def f(self, ran: Arrays) -> Array:
        """F (N,), float32, of what the served model answered."""
        return self.scalar.of_array(ran[self.scalar.tensor]).astype(np.float32)

    def served(self, point: Tensors, read: Read | None = None) -> Array:
        """F (N,), float32, of the served model at attributed tensors (N, ..), or what `read` makes of its answers; the other
        inputs are this row's."""
        chunks = range(0, len(point[0]), self.forward_rows)
        return np.concatenate([(read or self.f)(self._tail(tuple(t[i : i + self.forward_rows] for t in point))) for i in chunks])

    def _tail(self, point: Tensors) -> Arrays:
        self.token.check()
        rows = len(point[0])
        others = {name: np.repeat(self.feeds[name], rows, 0) for name in self.subject.others}
        feeds = dict(zip(self.subject.at.values(), (t.numpy() for t in point), strict=True)) | others
        key = ("tail", *(array.shape[1:] for array in feeds.values()))
        return self.subject.passes.through(key, feeds, rows, self.forward_rows, self._tails, self.token)

    def _tails(self, blocks: Sequence[Arrays]) -> list[Arrays]:
        """The served model's answers for rows of several explanations, in one run."""
        if len(blocks) == 1:
            return [self.subject.served.tail(blocks[0])]
        ran = self.subject.served.tail({name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]})
        ends = np.cumsum([len(next(iter(block.values()))) for block in blocks])[:-1]
        columns = {name: np.split(array, ends) for name, array in ran.items()}
        return [{name: parts[i] for name, parts in columns.items()} for i in range(len(blocks))]

    def served_inputs(self, feeds: Arrays, read: Read | None = None) -> Array:
        """F (N,), float32, of the whole served model for graph inputs (N, ..), or what `read` makes of its answers; inputs left
        out are this row's."""
        rows = len(next(iter(feeds.values())))
        values = []
        for i in range(0, rows, self.forward_rows):
            self.token.check()
            chunk = {name: array[i : i + self.forward_rows] for name, array in feeds.items()}
            count = min(self.forward_rows, rows - i)
            own = {name: np.repeat(array, count, 0) for name, array in self.feeds.items() if name not in chunk}
            values.append((read or self.f)(self.subject.served.run(own | chunk)))
        return np.concatenate(values)

    # ------------------------------------------------------------------------------------------------------- the twin

    def forward(self, *tensors: Tensor) -> Tensor:
        """F (N,) of the twin, from the attributed tensors (N, ..) and the other inputs (N, ..)."""
        self.token.check()
        (values,) = self.subject.segment((self.scalar.tensor,))(*tensors)
        return self.scalar.of(values)

    def gradients(self, point: Tensors, *, ends_at_instance: bool = False) -> tuple[Tensor | None, ...]:
        """Gradients of F of the twin in attributed tensors (N, ..), one each, None where none arrives; the other inputs are
        this row's. A pass may hold rows of other explanations, too. Where the last row is the instance, the pass tells its
        parity as well."""
        self.token.check()
        rows = len(point[0])
        others = tuple(t.expand(rows, *t.shape[1:]) for t in self.others)
        block = Rows((*point, *others), rows, self.scalar, ends_at_instance)
        by = slopes.way(self.subject, self.form, self.scalar)
        key = ("gradients", by, self.scalar.tensor, *((t.shape[1:], t.dtype) for t in block.tensors))
        run = partial(slopes.passed, self.subject, by)
        passed = self.subject.passes.through(key, block, rows, self.rows, run, self.token)
        if passed.outputs is not None:
            self.__dict__["parity"] = self._differs(passed.outputs)
        return passed.gradients

    @once
    def parity(self) -> float:
        """How far what is differentiated, the twin or the gradient graph, is from the served model on this row."""
        segment = self.subject.segment(self.subject.outputs)
        with self.subject.passes.lane.held(self.token), torch.no_grad():
            outputs = segment(*self.point, *self.others)
        return self._differs({name: o.numpy() for name, o in zip(segment.output_names, outputs, strict=True)})

    def _differs(self, outputs: Arrays) -> float:
        return parity_error(outputs, {name: self.ran[name] for name in self.subject.outputs})

    @once
    def bytes_a_row(self) -> int:
        """What a row's backward pass keeps: counted once for each shape."""
        subject = self.subject
        shapes = tuple(t.shape for t in (*self.point, *self.others))
        with subject.passes.lane.held(self.token):
            if shapes not in subject.row_bytes:
                saved = Saved()
                with torch.enable_grad(), saved.counting(subject.weights):
                    subject.segment(subject.outputs)(*(t.clone().requires_grad_() for t in self.point), *self.others)
                subject.row_bytes[shapes] = saved.bytes
        return subject.row_bytes[shapes]

    @once
    def rows(self) -> int:
        """Rows of a pass forward and backward: as many as are fastest and fit into its memory; one where rows depend on each
        other, as points of a path would, too, or where the twin takes no more."""
        if not self.subject.manifest.batching.rows_independent or self.subject.status.one_row:
            return 1
        device = self.subject.device
        short = max(USUAL, device.short // max(1, self.bytes_a_row))
        return rows_within(device.pass_memory(self.memory), self.bytes_a_row, min(self.subject.chunk, short))


def scale(f_x: float, f_b: float) -> float:
    """What API.md's completeness error is relative to."""
    return max(abs(f_x - f_b), 0.01 * max(1.0, abs(f_x)))

"""What makes an explanation cheap: from Captum on the plain torch module to ours, one thing after the other.

`python -m bench.ablation --digits 10 --pictures 1` for a quick look.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from bench.captum import DEFAULT_STEPS, attributed, effort_for, fastest_size, reference
from bench.contestants import Array, Contestant, contestants
from bench.smallest import smallest_steps
from bench.table import markdown
from bench.timing import in_turns, one_core
from service.explain.attribution.path import along
from service.explain.twin.module import Segment

_ROUNDS = 8
_AFFINE = ("Add", "BatchNormalization", "Conv", "Div", "Flatten", "Gemm", "Identity", "MatMul", "Mul", "Reshape", "Sub", "Transpose")
"""Operators that are affine in one of their inputs where the others are constants."""
_STAGES = (
    f"Captum, plain module, {DEFAULT_STEPS} steps in one pass",
    "smallest steps that reach 1 %, in one pass",
    ".. in passes of Captum's fastest size",
    ".. on the twin: folded, channels last",
    ".. without Captum around it, in passes of our size",
    "our rows on the plain module, our size (nodes placed, errors controlled)",
    "our rows on the twin, our size",
    ".. the affine beginning evaluated once, every node's gradient brought back through it",
    "our rows by the gradient graph, where there is a faster one",
    "ours in all: with forward rows, parity, checks",
)


def report(digits: int = 20, pictures: int = 2) -> str:
    """A table: ms of each stage, medians over the instances."""
    with one_core(), contestants(digits, pictures) as pair:
        columns = {f"{one.name}, ms (rows)": _stages(one) for one in pair}
    rows = [(stage, *(column[k] for column in columns.values())) for k, stage in enumerate(_STAGES)]
    return "Integrated gradients at a tolerance of 0.01, float32, one core; medians over the instances\n\n" + markdown(
        ("stage", *columns), rows
    )


def _stages(one: Contestant) -> list[str]:
    size = fastest_size(one, DEFAULT_STEPS)
    seconds, rows, effort, parts = [], [], effort_for(one), Parts.of(one)
    for i in range(len(one.x)):
        steps, _ = smallest_steps(one, i, None if effort.exact else reference(one, i, effort)[1])
        own, chunk = int(one.ours(i).fields["rows"]), one.chunk(i)
        fixed, placed = ((np.arange(n) + 0.5) / n for n in (steps, own))  # where they are doesn't change what they cost
        works: list[Callable[[], object]] = [
            partial(attributed, one, i, DEFAULT_STEPS, None),
            partial(attributed, one, i, steps, None),
            partial(attributed, one, i, steps, size),
            partial(attributed, one, i, steps, size, one.twin),
            partial(_exhausted, one, i, fixed, chunk),
            partial(_exhausted, one, i, placed, chunk, one.module),
            partial(_exhausted, one, i, placed, chunk),
            partial(_behind_beginning, one, i, parts, placed, chunk),
            partial(_by_graph, one, i, own, chunk),
            partial(one.ours, i),
        ]
        seconds.append([timed.seconds for timed in in_turns(works, _ROUNDS if one.x.nbytes < 2**20 else 1)])
        rows.append([DEFAULT_STEPS, steps, steps, steps, steps, own, own, own, own, own])
    cells = [f"{ms:.1f} ({n:.0f})" for ms, n in zip(np.median(seconds, 0) * 1e3, np.median(rows, 0), strict=True)]
    return cells if one.subject.graph else [*cells[:-2], "-", cells[-1]]


def _exhausted(one: Contestant, i: int, fractions: Array, rows: int, forward: nn.Module | None = None) -> None:
    for _ in one.gradients(i, fractions, rows, forward):
        pass


@dataclass(frozen=True, slots=True)
class Parts:
    """The folded twin, cut where it stops being affine in its input."""

    beginning: Segment
    rest: Segment

    @classmethod
    def of(cls, one: Contestant) -> Parts:
        """Along the one path that leads there."""
        tensor = one.input
        for step in one.subject.segment(one.subject.outputs).program.steps:
            if step.node.operator not in _AFFINE or tensor not in step.inputs:
                break
            tensor = step.node.outputs[0]
        twin = one.subject.twin
        return cls(twin.segment((one.input,), (tensor,)), twin.segment((tensor,), one.subject.outputs))


def _behind_beginning(one: Contestant, i: int, parts: Parts, fractions: Array, chunk: int) -> None:
    """Rows through the rest alone, at points between what the beginning makes of baseline and instance; their gradients to the
    input, where the distance from the integral is estimated."""
    point, target = one.point(i), one.target(i)
    x = point.expand(min(chunk, len(fractions)), *point.shape[1:]).clone().requires_grad_()
    with torch.enable_grad():
        (reached,) = parts.beginning(x)  # its gradient is the same wherever it is taken
        (low,) = parts.beginning(torch.zeros_like(point))
    low, high = low.detach(), reached[:1].detach()
    for start in range(0, len(fractions), chunk):
        (places,) = along((low,), (high,), fractions[start : start + chunk])
        places.requires_grad_()
        with torch.enable_grad():
            total = parts.rest(places)[0][:, target].sum()
        (inner,) = torch.autograd.grad(total, places)
        torch.autograd.grad(reached[: len(inner)], x, inner, retain_graph=True)


def _by_graph(one: Contestant, i: int, rows: int, chunk: int) -> None:
    """So many rows through the gradient graph, in passes of so many."""
    graph = one.subject.graph
    for start in range(0, rows if graph else 0, chunk):
        count = min(chunk, rows - start)
        assert graph is not None
        graph.run({one.input: np.repeat(one.x[i : i + 1], count, 0)}, np.ones((count, *graph.row), np.float32))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.ablation", description=__doc__)
    parser.add_argument("--digits", type=int, default=20)
    parser.add_argument("--pictures", type=int, default=2)
    arguments = parser.parse_args()
    print(report(arguments.digits, arguments.pictures))

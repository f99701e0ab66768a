"""Gradients for rows of several explanations, each with its own F, in one pass forward and backward."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.explain.scalar import Scalar
from service.explain.subject import Form, Subject

Arrays = Mapping[str, NDArray[Any]]
Way = Form | Literal["graph"]
"""A form of the twin, whose autograd computes gradients, or the subject's gradient graph."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What gradients are asked of: attributed tensors and others (N, ..), and F."""

    tensors: tuple[Tensor, ...]
    rows: int
    scalar: Scalar
    checked: bool
    """Whether the last row is the instance, of which the outputs are wanted."""


@dataclass(frozen=True, slots=True, eq=False)
class Passed:
    gradients: tuple[Tensor | None, ...]
    """In attributed tensors (N, ..), one each."""
    outputs: Arrays | None
    """Of what was differentiated, (1, ..) by name, for the last row where that is `checked`."""


def way(subject: Subject, form: Form, scalar: Scalar) -> Way:
    """How gradients of F are computed where `form` is the twin's."""
    graph = subject.graph
    return "graph" if form == "folded" and graph is not None and graph.tensor == scalar.tensor and scalar.linear else form


def passed(subject: Subject, by: Way, blocks: Sequence[Rows]) -> list[Passed]:
    """One for each block; all blocks' F are of the same tensor."""
    tensors = [column[0] if len(column) == 1 else torch.cat(column) for column in zip(*(b.tensors for b in blocks), strict=True)]
    found, ran = _of_graph(subject, blocks, tensors) if by == "graph" else _of_twin(subject, by, blocks, tensors)
    ends = itertools.pairwise(itertools.accumulate((block.rows for block in blocks), initial=0))
    return [
        Passed(
            tuple(None if g is None else g[a:b] for g in found),
            {name: ran[name][b - 1 : b] for name in subject.outputs} if block.checked else None,
        )
        for block, (a, b) in zip(blocks, ends, strict=True)
    ]


def _of_twin(subject: Subject, form: Form, blocks: Sequence[Rows], tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor | None], Arrays]:
    tensor, attributed = blocks[0].scalar.tensor, len(subject.at)
    leaves = [t.detach().requires_grad_() for t in tensors[:attributed]]
    names = tuple(dict.fromkeys((tensor, *(subject.outputs if any(b.checked for b in blocks) else ()))))
    with torch.enable_grad():
        ran = dict(zip(names, subject.segment(names, form=form)(*leaves, *tensors[attributed:]), strict=True))
        parts = torch.split(ran[tensor], [block.rows for block in blocks])
        scores = [b.scalar.of(part).sum() for b, part in zip(blocks, parts, strict=True)]
    return torch.autograd.grad(scores, leaves, allow_unused=True), {name: values.detach().numpy() for name, values in ran.items()}


def _of_graph(subject: Subject, blocks: Sequence[Rows], tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor | None], Arrays]:
    graph = subject.graph
    assert graph is not None  # `way` has looked
    feeds = {name: t.numpy() for name, t in zip((*subject.at.values(), *subject.others), tensors, strict=True)}
    found, ran = graph.run(feeds, np.concatenate([block.scalar.slope((block.rows, *graph.row)) for block in blocks]))
    return [torch.from_numpy(g) for g in found], ran

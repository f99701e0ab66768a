"""Integrated gradients to a tolerance: Captum's method on the pieces of the path that need it.

Integrated gradients (Sundararajan, Taly, Yan 2017, https://arxiv.org/abs/1703.01365) of a path are the sum of those of its
pieces, and on each piece completeness says how large the error is: F at its end minus F at its start, which the served
model tells cheaply, against the sum of the attributions. So the path is cut into pieces that Captum integrates with few
nodes each, and the pieces with the largest error are halved until the whole is within tolerance. ReLU networks have kinks,
where any rule converges slowly: halving goes where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.explain.cancel import TimeUp

PIECES, NODES = 8, 2
"""Pieces at first, and Gauss-Legendre nodes on each: 16 rows of gradients suffice for most inputs."""
SHORTEST = 2.0**-12
"""Of a piece: below this float32 has few digits left for the difference of its ends."""

Tensors = tuple[Tensor, ...]
Attribute = Callable[[Tensors, Tensors, int], Tensors]
"""(starts (S, ..), ends (S, ..), nodes) to integrated gradients (S, ..), input by input."""
Heights = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""F of the served model at these places of the path, 0 the baseline and 1 the instance."""


@dataclass(frozen=True, slots=True)
class Piece:
    start: float
    end: float
    attributions: Tensors
    """Without batch axis."""
    error: float
    """Sum of the attributions minus F(end) + F(start)."""


@dataclass(frozen=True, slots=True)
class Integral:
    attributions: Tensors
    """Without batch axis."""
    steps: int
    """Nodes of the rule that gave the answer."""
    rows: int
    """Rows of gradients computed on the way."""
    timed_out: bool = False


def integrate(start: Tensors, end: Tensors, attribute: Attribute, heights: Heights, allowed: float, max_steps: int) -> Integral:
    """Integrated gradients from `start` to `end` (tensors (1, ..)), the sum of whose errors is at most `allowed`, or the best
    that `max_steps` nodes and the time give. Raises TimeUp where time ends before there is any answer.
    """
    cuts = np.linspace(0.0, 1.0, PIECES + 1)
    pieces = _pieces(start, end, attribute, cuts[:-1], cuts[1:], heights(cuts))
    rows = NODES * len(pieces)
    try:
        while abs(sum(p.error for p in pieces)) > allowed:
            worst = _worst(pieces, (max_steps - NODES * len(pieces)) // NODES, allowed)
            if not worst:
                break
            halves = _halve(worst, start, end, attribute, heights)
            rows += NODES * len(halves)
            chosen = {p.start for p in worst}
            pieces = [p for p in pieces if p.start not in chosen] + halves
    except TimeUp:
        return _sum(pieces, rows, timed_out=True)
    return _sum(pieces, rows)


def _worst(pieces: Sequence[Piece], room: int, allowed: float) -> list[Piece]:
    """The pieces to halve next, at most `room` of them: those with most of the error."""
    share = allowed / (2 * len(pieces))
    candidates = [p for p in pieces if p.end - p.start > SHORTEST and abs(p.error) > share]
    return sorted(candidates, key=lambda p: -abs(p.error))[: max(0, min(room, PIECES))]


def _halve(worst: Sequence[Piece], start: Tensors, end: Tensors, attribute: Attribute, heights: Heights) -> list[Piece]:
    starts = np.asarray([a for p in worst for a in (p.start, (p.start + p.end) / 2)])
    ends = np.asarray([b for p in worst for b in ((p.start + p.end) / 2, p.end)])
    places = np.unique(np.concatenate([starts, ends]))
    known = dict(zip(places.tolist(), heights(places).tolist(), strict=True))
    differences = [known[b] - known[a] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
    return _integrated(start, end, attribute, starts, ends, differences)


def _pieces(
    start: Tensors, end: Tensors, attribute: Attribute, starts: NDArray[np.float64], ends: NDArray[np.float64], f: NDArray[np.float64]
) -> list[Piece]:
    return _integrated(start, end, attribute, starts, ends, np.diff(f).tolist())


def _integrated(
    start: Tensors,
    end: Tensors,
    attribute: Attribute,
    starts: NDArray[np.float64],
    ends: NDArray[np.float64],
    differences: Sequence[float],
) -> list[Piece]:
    found = attribute(along(start, end, starts), along(start, end, ends), NODES)
    sums = sum(a.double().flatten(1).sum(1) for a in found)  # (S,)
    assert isinstance(sums, Tensor)  # there is at least one input
    return [
        Piece(a, b, tuple(t[i] for t in found), total - difference)
        for i, (a, b, total, difference) in enumerate(zip(starts.tolist(), ends.tolist(), sums.tolist(), differences, strict=True))
    ]


def along(start: Tensors, end: Tensors, places: NDArray[np.float64]) -> Tensors:
    """The points of the straight path at `places` (S,), as tensors (S, ..)."""
    fractions = torch.from_numpy(places)
    return tuple(torch.lerp(a, b, fractions.to(a.dtype).reshape(-1, *(1,) * (a.dim() - 1))) for a, b in zip(start, end, strict=True))


def _sum(pieces: Sequence[Piece], rows: int, *, timed_out: bool = False) -> Integral:
    ordered = sorted(pieces, key=lambda p: p.start)
    columns = zip(*(p.attributions for p in ordered), strict=True)
    return Integral(tuple(torch.stack(column).sum(0) for column in columns), NODES * len(pieces), rows, timed_out)

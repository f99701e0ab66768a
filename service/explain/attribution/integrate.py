"""Integrated gradients to a tolerance, with as few rows of gradients as this input needs.

Integrated gradients (Sundararajan, Taly, Yan 2017, https://arxiv.org/abs/1703.01365) of a path are the sum of those of its
pieces, and on each piece completeness says how large the error is: F at its end minus F at its start, which the served
model tells for the price of a forward pass, against the sum of the attributions. So

1. a few forward passes find where F moves along the path, and the first pieces are narrow there: a piece's share of the
   path's *square root* of movement is what counts, a part of it spread evenly (Bhat and Raychowdhury 2023 place nodes by
   the movement itself, which leaves too few where F stands still but its gradient doesn't);
2. each piece has one node of gradients, in its middle;
3. as long as the sum of all errors is beyond the tolerance, the pieces that carry it are cut in three. The middle one has
   its node already, so a cut costs two rows.

ReLU networks have kinks, where every rule converges slowly: the cuts go where they are. On the MNIST network 1 % takes 24
rows (median, `python -m bench exactness`); a fixed rule of 100 Gauss-Legendre nodes reaches it on half of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.explain.cancel import TimeUp

PROBES = 8
"""Cells of the path in which its movement is measured at first."""
EVENLY = 0.3
"""The part of the first nodes that is spread evenly, whatever the probes say."""
PIECES = 16
"""At first: so many rows of gradients suffice for many inputs."""
AT_ONCE = 2
"""Pieces cut at a time. More would overshoot."""
CARRIED_OFF = 0.8
"""The part of a piece's error that cutting it in three takes away, about: smooth functions lose 8/9, kinks less."""
SHORTEST = 2.0**-12
"""Of a piece: below this float32 has few digits left for the difference of its ends."""

Tensors = tuple[Tensor, ...]
Places = NDArray[np.float64]
"""(S,) of the path, 0 the baseline and 1 the instance."""
Attribute = Callable[[Places, Places], Tensors]
"""(nodes (S,), widths (S,)) to the attributions (S, ..) of so wide pieces with a node each, input by input."""
Heights = Callable[[Places], Places]
"""F of the served model at these places of the path."""


@dataclass(frozen=True, slots=True, eq=False)
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
    """Nodes, each a row of gradients."""
    timed_out: bool = False


def integrate(attribute: Attribute, heights: Heights, allowed: float, max_steps: int) -> Integral:
    """Integrated gradients the sum of whose errors is at most `allowed`, or the best that `max_steps` nodes and the time
    give. Raises TimeUp where time ends before there is any answer.
    """
    cuts = first_cuts(heights, min(PIECES, max_steps))
    pieces = _measured(attribute, cuts[:-1], cuts[1:], np.diff(heights(cuts)))
    try:
        while abs(sum(p.error for p in pieces)) > allowed:
            chosen = _carriers(pieces, min((max_steps - len(pieces)) // 2, AT_ONCE))
            if not chosen:
                break
            parts = _cut_in_three(chosen, attribute, heights)
            pieces = [p for p in pieces if p not in chosen] + parts
    except TimeUp:
        return _sum(pieces, timed_out=True)
    return _sum(pieces)


def first_cuts(heights: Heights, pieces: int) -> Places:
    """The ends (pieces + 1,) of the first pieces, ascending from 0 to 1."""
    cells = np.linspace(0.0, 1.0, PROBES + 1)
    moved = np.sqrt(np.abs(np.diff(heights(cells))))  # (PROBES,)
    total = moved.sum()
    if not 0 < total < np.inf:
        return np.linspace(0.0, 1.0, pieces + 1)
    share = (1 - EVENLY) * moved / total + EVENLY / PROBES
    passed = np.concatenate(([0.0], np.cumsum(share)))
    return np.interp(np.linspace(0.0, passed[-1], pieces + 1), passed, cells)


def _carriers(pieces: Sequence[Piece], most: int) -> list[Piece]:
    """At most so many pieces, largest errors first, without which the sum of all errors would be smaller; where none would,
    those with the largest errors."""
    ordered = sorted((p for p in pieces if p.end - p.start > SHORTEST), key=lambda p: -abs(p.error))
    left = sum(p.error for p in pieces)
    chosen: list[Piece] = []
    for piece in ordered:
        if len(chosen) < most and abs(left - CARRIED_OFF * piece.error) < abs(left):
            chosen.append(piece)
            left -= CARRIED_OFF * piece.error
    return chosen or ordered[: max(0, most)]


def _measured(attribute: Attribute, starts: Places, ends: Places, differences: Places) -> list[Piece]:
    """The pieces between `starts` and `ends`, over which F changes by `differences`."""
    found = attribute((starts + ends) / 2, ends - starts)
    return [
        _piece(a, b, tuple(t[i] for t in found), difference)
        for i, (a, b, difference) in enumerate(zip(starts.tolist(), ends.tolist(), differences.tolist(), strict=True))
    ]


def _piece(start: float, end: float, attributions: Tensors, difference: float) -> Piece:
    return Piece(start, end, attributions, float(sum(t.sum(dtype=torch.float64) for t in attributions)) - difference)


def _cut_in_three(chosen: Sequence[Piece], attribute: Attribute, heights: Heights) -> list[Piece]:
    edges = np.asarray([np.linspace(p.start, p.end, 4) for p in chosen])  # (P, 4)
    f = heights(edges.reshape(-1)).reshape(edges.shape)
    outer = _measured(attribute, edges[:, [0, 2]].reshape(-1), edges[:, [1, 3]].reshape(-1), np.diff(f)[:, [0, 2]].reshape(-1))
    # The middle third has its parent's node, so a third of its attributions.
    thirds = [tuple(t / 3 for t in p.attributions) for p in chosen]
    middle = [_piece(float(e[1]), float(e[2]), third, float(y[2] - y[1])) for e, third, y in zip(edges, thirds, f, strict=True)]
    return outer + middle


def along(start: Tensors, end: Tensors, places: Places) -> Tensors:
    """The points of the straight path at `places` (S,), as tensors (S, ..)."""
    fractions = torch.from_numpy(places)
    return tuple(torch.lerp(a, b, fractions.to(a.dtype).reshape(-1, *(1,) * (a.dim() - 1))) for a, b in zip(start, end, strict=True))


def _sum(pieces: Sequence[Piece], *, timed_out: bool = False) -> Integral:
    ordered = sorted(pieces, key=lambda p: p.start)
    columns = zip(*(p.attributions for p in ordered), strict=True)
    return Integral(tuple(sum(column[1:], column[0].clone()) for column in columns), len(pieces), timed_out)

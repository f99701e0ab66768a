"""Integrated gradients at a completeness error of 1 %: against Captum on the plain torch module.

Captum gets for nothing what its user would have to find out: the smallest `n_steps` that reaches the tolerance for that very
input, searched upwards so that an error that happens to cancel counts too; the target; and the `internal_batch_size` that is
fastest here. `python -m bench.captum --digits 10 --pictures 1` for a quick look.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np
import torch
from captum.attr import IntegratedGradients
from numpy.typing import NDArray
from torch import nn

from bench.contestants import TOLERANCE, Contestant, contestants
from bench.smallest import MOST_STEPS, Slopes, slopes_of, smallest_steps
from bench.table import markdown
from bench.timing import in_turns, one_core, quartiles
from service.explain.methods import ExplainRequest

DEFAULT_STEPS = 50
_FEW = 16
"""Steps at which the passes of the smallest count are sized."""
_SIZES = (8, 16, 32)
_LONG = 100
"""Steps from which on a run of a large network takes so long that a moment's noise doesn't matter: one round."""


@dataclass(frozen=True, slots=True)
class Effort:
    """What an input was measured with."""

    rounds: int
    reference: int
    """Midpoints of the converged reference."""
    exact: bool
    """Whether that is computed in float64."""


SMALL = Effort(rounds=8, reference=1000, exact=True)
LARGE = Effort(rounds=2, reference=256, exact=False)
_COSTLY = 10_000
"""Numbers of an instance from which on a network counts as large."""
_JUDGED = 30
"""Instances of a small network whose attributions are compared with a reference at most."""


def effort_for(one: Contestant) -> Effort:
    return SMALL if one.x[0].size < _COSTLY else LARGE


@dataclass(frozen=True, slots=True)
class Found:
    """One way of explaining one instance."""

    by: str
    seconds: float
    rows: int
    error: float
    """Completeness."""
    distance: float | None
    """From the converged reference, relative L2; None where that isn't known."""
    told: float | None = None
    """The same as the answer has it: `integration_error`."""


@dataclass(frozen=True, slots=True)
class Run:
    """One instance."""

    ours: tuple[Found, ...]
    smallest: Found
    """Captum at the smallest steps that reach the tolerance, where any do."""
    default: Found
    reached: bool


def report(digits: int = 100, pictures: int = 4) -> str:
    """A table a question: how long, how much longer Captum takes, how far each is from the converged integral."""
    with one_core(), contestants(digits, pictures) as pair:
        runs = {one.name: list(measured(one, effort_for(one))) for one in pair}
    return "\n\n".join((_NOTE, _times(runs), _quality(runs)))


_NOTE = f"""One explanation of the predicted class's logit from zero, tolerance {TOLERANCE:g}, one core, one thread, float32; ours as an
explainer process answers (prediction, parity check and choice of nodes included), by default, which also bounds the distance from
the integral, and for completeness alone (`integration_tolerance=1`); Captum on the plain torch module (a) at the
smallest `n_steps` that reaches the tolerance for that input, found beforehand, (b) at its default {DEFAULT_STEPS} steps; each in one
pass or in passes of the fastest size, whichever is faster. Least of {SMALL.rounds} rounds in turns; for a large network of {LARGE.rounds},
of one where (a) is {_LONG} steps or more. Ratios: median (quartiles)."""


def _times(runs: dict[str, list[Run]]) -> str:
    rows = []
    for name, done in runs.items():
        smallest, default = [r.smallest for r in done], [r.default for r in done]
        captum = (f"{_median(smallest, 'seconds') * 1e3:.4g} ({_median(smallest, 'rows'):g})", f"{_median(default, 'seconds') * 1e3:.4g}")
        for ours in zip(*(r.ours for r in done), strict=True):
            less, more = ([c.seconds / o.seconds for c, o in zip(captums, ours, strict=True)] for captums in (smallest, default))
            rows.append(
                (
                    name,
                    len(done),
                    ours[0].by,
                    _median(ours, "seconds") * 1e3,
                    _median(ours, "rows"),
                    *captum,
                    quartiles(less),
                    quartiles(more),
                    sum(ratio < 1 for ratio in less),
                    sum(not r.reached for r in done),
                )
            )
    header = ("network", "n", "ours", "ms", "rows", "(a) ms (steps)", "(b) ms", "(a) / ours", "(b) / ours", "(a) faster")
    return markdown((*header, f"(a) not reached in {MOST_STEPS}"), rows)


def _quality(runs: dict[str, list[Run]]) -> str:
    rows = []
    for name, done in runs.items():
        for found in zip(*((*r.ours, r.smallest, r.default) for r in done), strict=True):
            judged = [f for f in found if f.distance is not None]
            told = [f for f in judged if f.told is not None]
            distances = [_median(few, what) if few else "-" for few, what in ((judged, "distance"), (told, "told"))]
            rows.append((name, found[0].by, _median(found, "error"), len(judged), *distances))
    header = ("network", "by", "completeness error", "judged", "distance from the integral", "as told (integration_error)")
    return "Medians; distance: relative L2 from a converged reference, so that a cancelled error shows\n\n" + markdown(header, rows)


def _median(found: Sequence[Found], what: str) -> float:
    return median(getattr(one, what) for one in found)


def measured(one: Contestant, effort: Effort) -> Iterator[Run]:
    """Each instance of a contestant."""
    few = fastest_size(one, _FEW, effort.rounds)
    many = fastest_size(one, DEFAULT_STEPS, effort.rounds) if effort.exact else few or _FEW  # large: more rows a pass are slower still
    for i in range(len(one.x)):
        wanted, known = reference(one, i, effort) if i < _JUDGED or not effort.exact else (None, None)
        steps, reached = smallest_steps(one, i, known)
        works = [
            *(partial(_ours, one, i, request) for request in one.requests.values()),
            partial(attributed, one, i, steps, few),
            partial(attributed, one, i, DEFAULT_STEPS, many),
        ]
        timed = in_turns(works, effort.rounds if effort.exact or steps < _LONG else 1)
        ways = [(by, one.ours(i, request).fields) for by, request in one.requests.items()]
        found = [
            Found(
                by,
                each.seconds,
                int(fields["rows"]),
                one.completeness(i, float(each.result.sum(dtype=np.float64))),
                None if wanted is None else float(np.linalg.norm(each.result - wanted) / np.linalg.norm(wanted)),
                fields.get("integration_error"),
            )
            for (by, fields), each in zip([*ways, ("(a)", {"rows": steps}), ("(b)", {"rows": DEFAULT_STEPS})], timed, strict=True)
        ]
        yield Run(tuple(found[:-2]), found[-2], found[-1], reached)


def _ours(one: Contestant, i: int, request: ExplainRequest) -> NDArray[np.float32]:
    attributions = one.ours(i, request).attributions
    assert attributions is not None  # the twin's parity was checked
    return attributions[one.input][None]


def attributed(one: Contestant, i: int, steps: int, rows: int | None, module: nn.Module | None = None) -> NDArray[np.float32]:
    """(1, ..): by Captum with so many steps, in passes of `rows` (None: one), on the contestant's module or another."""
    point = one.point(i)
    gradients = IntegratedGradients(module or one.module)
    found = gradients.attribute(point, torch.zeros_like(point), one.target(i), n_steps=steps, internal_batch_size=rows)
    return found.detach().numpy()  # type: ignore[no-any-return]


def fastest_size(one: Contestant, steps: int, rounds: int = 2) -> int | None:
    """The `internal_batch_size` at which Captum is fastest on this module for so many steps; None: all in one pass."""
    sizes = [None, *(size for size in _SIZES if size < steps)]
    timed = in_turns([partial(attributed, one, 0, steps, rows) for rows in sizes], rounds)
    return min(zip(timed, sizes, strict=True), key=lambda pair: pair[0].seconds)[1]


def reference(one: Contestant, i: int, effort: Effort) -> tuple[NDArray[np.float64], Slopes | None]:
    """The integral (1, ..) by so many midpoints, and, of a large network, the slopes there: the search for the smallest number of
    steps begins with them."""
    fractions = (np.arange(effort.reference) + 0.5) / effort.reference
    if effort.exact:
        return _exact(one, i, fractions), None
    total, rises = torch.zeros_like(one.point(i)).double(), []
    for found in one.gradients(i, fractions, 8):
        total += found.double().sum(0, keepdim=True)
        rises.append(slopes_of(one, i, found))
    return (total * one.point(i).double() / effort.reference).numpy(), Slopes(fractions, np.concatenate(rises))


def _exact(one: Contestant, i: int, fractions: NDArray[np.float64]) -> NDArray[np.float64]:
    """In float64, by the plain module."""
    module, point, target = one.module.double(), one.point(i).double(), one.target(i)
    total = torch.zeros_like(point)
    for share in np.array_split(fractions, 20):
        places = (point * torch.from_numpy(share).reshape(-1, *(1,) * (point.dim() - 1))).requires_grad_()
        total += torch.autograd.grad(module(places)[:, target].sum(), places)[0].sum(0, keepdim=True)
    one.module.float()
    return (total * point / len(fractions)).numpy()  # type: ignore[no-any-return]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.captum", description=__doc__)
    parser.add_argument("--digits", type=int, default=100)
    parser.add_argument("--pictures", type=int, default=4)
    arguments = parser.parse_args()
    print(report(arguments.digits, arguments.pictures))

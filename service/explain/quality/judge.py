"""Judges one explanation: takes its trust figures as far as the time goes, the cheap ones first, and puts them in words."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from service.explain.attribution import Found
from service.explain.cancel import TimeUp, Token
from service.explain.case import Case
from service.explain.methods.listing import supported
from service.explain.quality.curves import curves
from service.explain.quality.figures import Figures
from service.explain.quality.ground import ground_of
from service.explain.quality.infidelity import infidelity
from service.explain.quality.sensitivity import sensitivity
from service.explain.quality.verdict import Asked, Verdict, verdict_of

T = TypeVar("T")
UNTRUSTED: Final = "Not trustworthy. The model's twin doesn't compute what is served on this instance, so there is no explanation."
REPLY = 0.9
"""Part of the time that judging may take: the answer has to arrive within it."""


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    figures: Figures
    verdict: Verdict

    @property
    def quality(self) -> dict[str, Any]:
        return self.figures.as_json()


def judge(case: Case, found: Found, completeness_error: float | None, token: Token) -> Judgement:
    """The figures of an explanation and what they say, in `token`'s time. Raises Cancelled."""
    figures = figures_of(case, found, completeness_error, token.within(REPLY * token.remaining))
    return Judgement(figures, verdict_of(figures, _asked(case, found)))


def _asked(case: Case, found: Found) -> Asked:
    request = case.request
    others = [m.name for m in supported(case.subject.manifest, case.subject.status) if m.name != request.method.name]
    return Asked(
        measures=request.method.measures(request.parameters),
        explained=case.scalar.explained,
        tolerance=found.parameters.get("tolerance"),
        converged=found.converged,
        instance_output=case.instance_output,
        attributed=any(bool(a.any()) for a in found.attributions.values()),
        has_baseline="baseline" in request.method.needs,
        others=others,
    )


def figures_of(case: Case, found: Found, completeness_error: float | None, token: Token) -> Figures:
    """The figures of an explanation, taken in `token`'s time; draws by the request's seed. Raises Cancelled."""
    started = time.perf_counter()
    case = case.until(token)
    seed = case.request.parameters.seed
    clock = _Clock()
    ground = clock.take(lambda: ground_of(case, found))
    removable = ground is not None and ground.count > 0
    return Figures(
        completeness_error=completeness_error,
        integration_error=found.fields.get("integration_error"),
        parity_error=case.parity if case.request.method.needs_twin else None,
        units=ground.count if ground else 0,
        noun=ground.noun if ground else "parts",
        curves=clock.take(lambda: curves(ground, seed)) if ground and removable else None,
        infidelity=clock.take(lambda: infidelity(ground, seed)) if ground and removable else None,
        sensitivity=clock.take(lambda: sensitivity(case, found, seed)),
        timed_out=clock.timed_out,
        seconds=time.perf_counter() - started,
    )


class _Clock:
    """Takes one figure after the other, None once the time is up."""

    def __init__(self) -> None:
        self.timed_out = False

    def take(self, figure: Callable[[], T]) -> T | None:
        if self.timed_out:
            return None
        try:
            return figure()
        except TimeUp:
            self.timed_out = True
            return None

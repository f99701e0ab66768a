"""The trust figures in plain words: what is good, what isn't, what can't be told, and what helps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from service.explain.methods.method import Measure
from service.explain.quality.curves import MOVES, Curves
from service.explain.quality.figures import Figures
from service.explain.quality.infidelity import NOTHING, Infidelity
from service.explain.quality.sensitivity import Sensitivity

CHANCE = 2.2
"""Standard deviations: one random order in forty lies that far out (Student's t of twelve pairs of random orders)."""
LIKELY = 1.0
"""Standard deviations from which on an order is better than five of six random ones: neither proven nor refuted. Where a few large
parts make up the instance, even the right order hardly gets further."""
FEW = 8
"""Units: of fewer, random orders too often hit the right one for any order to stand out."""
FORETOLD, HARDLY = 0.4, 0.8
"""Infidelity up to which an explanation foretells most of what removals do, and from which on hardly more than one that is zero
everywhere (1)."""
STEADY, UNSTEADY = 0.5, 1.0
"""Sensitivity up to which a neighbour's explanation still points the same way (a difference of half the length is an angle of at
most 30 degrees), and from which on it may be another one altogether (60 degrees)."""
FAR = 0.25
"""Distance from the exact integral, relative (L2), beyond which an explanation is no longer the integral's, whatever was asked for."""
INCOMPLETE = 0.1
"""Completeness error beyond which a tenth of the output's change is unaccounted for: more than rounding of the shares."""


RANKING = ("integrated_gradients", "shapley_value_sampling", "occlusion", "feature_ablation")
"""Methods that rank well on most models, best first: what to try where another fails."""
SMOOTHING = ("smoothgrad", "gradient_shap", "integrated_gradients")
"""Methods that average over neighbours or a path."""


class Grade(Enum):
    GOOD = "good"
    FAIR = "fair"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    grade: Grade
    words: str
    remedies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    grade: Grade
    text: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What the words of a verdict need to know of the request."""

    measures: Measure
    explained: str
    tolerance: float | None
    converged: bool
    """As far as the method controls its errors itself."""
    instance_output: float
    attributed: bool
    """Whether any attribution differs from zero."""
    has_baseline: bool
    others: Sequence[str]
    """Methods that this model supports besides."""

    def instead(self, preferred: Sequence[str]) -> tuple[str, ...]:
        """Another baseline or method, as remedies."""
        method = next(((f"another method, e.g. {name}",) for name in preferred if name in self.others), ())
        return ("another baseline", *method) if self.has_baseline else method


def verdict_of(figures: Figures, asked: Asked) -> Verdict:
    """The figures of one explanation, graded and put in words."""
    if (plain := _nothing_to_judge(figures, asked)) is not None:
        return plain
    complete = _complete(figures.completeness_error, figures.integration_error, asked)
    order = _order(figures.curves, figures, asked)
    foretold = _foretold(figures.infidelity, asked)
    steady = _steady(figures.sensitivity, asked)
    findings = [f for f in (complete, order, foretold, steady) if f is not None]
    grade = _overall(complete, order, foretold, steady, asked.measures)
    if figures.timed_out:
        missing = Finding(Grade.UNKNOWN, "the time was up before every figure was taken", ("a longer timeout",))
        findings.append(missing)
        grade = Grade.FAIR if grade is Grade.GOOD else grade
    return Verdict(grade, _text(grade, findings))


def _nothing_to_judge(figures: Figures, asked: Asked) -> Verdict | None:
    if figures.units == 0 and not figures.timed_out:
        text = "Can't be judged. The instance is the same as the baseline it is compared with: nothing can be removed from it. "
        return Verdict(Grade.UNKNOWN, text + "What helps: another baseline.")
    if figures.curves is None or figures.curves.moved > NOTHING * max(1.0, abs(asked.instance_output)):
        return None
    said = f"The {asked.explained} doesn't change, whatever is removed from the input: there is nothing to explain"
    if asked.attributed and asked.measures == "share":
        return Verdict(Grade.BAD, f"Not trustworthy. {said}, yet there are attributions that aren't zero.")
    return Verdict(Grade.UNKNOWN, f"Can't be judged. {said}. What helps: another target or another baseline.")


# ----------------------------------------------------------------------------------------------------- one figure each


def _complete(error: float | None, distance: float | None, asked: Asked) -> Finding | None:
    if error is None:
        return None
    remedies = ("more steps or samples", "a longer timeout")
    tolerance = asked.tolerance or 0.01
    words = f"the attributions miss the {asked.explained}'s change from the baseline by {_percent(error)}"
    if error <= tolerance and distance is not None:  # their sum is made to fit, so it tells nothing more
        near = f"the attributions add up to the {asked.explained}'s change and are about {_percent(distance)} off the exact integral"
        if asked.converged and distance <= FAR:
            return Finding(Grade.GOOD, near)
        return Finding(Grade.FAIR, near, ("a smaller integration_tolerance",) if asked.converged else remedies)
    if error <= tolerance:
        return Finding(Grade.GOOD, f"the attributions add up to the {asked.explained}'s change from the baseline to {_percent(error)}")
    return Finding(Grade.BAD if error > INCOMPLETE else Grade.FAIR, f"{words} ({_percent(tolerance)} was asked for)", remedies)


def _order(curves: Curves | None, figures: Figures, asked: Asked) -> Finding | None:
    if curves is None:
        return None
    what = "probability" if curves.shows == "probability" else asked.explained
    if curves.span < MOVES:
        remedy = "explaining the logit (explained=logit)" if asked.explained == "probability" else "another baseline"
        return Finding(Grade.UNKNOWN, f"the {what} hardly moves whatever is removed, so removing parts can't tell good from bad", (remedy,))
    beyond = curves.beyond_chance
    deletion, insertion = curves.deletion, curves.insertion
    means = (
        f"with the highest-ranked {figures.noun} removed first the {what} averages {deletion.area:.2f}, put back first "
        f"{insertion.area:.2f}, and {deletion.random_area:.2f} in random order"
    )
    if beyond is not None and beyond >= CHANCE:
        return Finding(Grade.GOOD, f"what it ranks highest matters most: {means}")
    if figures.units < FEW:
        return Finding(Grade.UNKNOWN, f"with {figures.units} {figures.noun} to remove, a right order can't be told from a lucky one")
    if beyond is not None and beyond >= LIKELY:
        doubt = f"better than most random ones, but by {beyond:.1f} standard deviations only, {CHANCE:g} would leave no doubt"
        return Finding(Grade.FAIR, f"its order is {doubt}: {means}")
    worse = beyond is not None and beyond <= -CHANCE
    words = "its order is worse than a random one" if worse else "its order is no better than a random one"
    return Finding(Grade.BAD, f"{words}: {means}", asked.instead(RANKING))


def _foretold(found: Infidelity | None, asked: Asked) -> Finding | None:
    if found is None:
        return None
    error = found.relative if asked.measures == "share" else found.scaled
    if error is None:
        return None
    up_to = "" if asked.measures == "share" else " (but for one common factor)"
    if error >= HARDLY:
        words = f"it hardly foretells what removing parts does to the {asked.explained}{up_to}: error {error:.2g}, where zeros get 1"
        return Finding(Grade.BAD, words, asked.instead(RANKING))
    words = f"it foretells {1 - error:.0%} of what removing parts does to the {asked.explained}{up_to}"
    return Finding(Grade.GOOD if error <= FORETOLD else Grade.FAIR, words)


def _steady(found: Sensitivity | None, asked: Asked) -> Finding | None:
    if found is None or found.maximum is None:
        return None
    how = (
        f"where the input moves by at most {found.radius:.0%} of what its values span, the explanation moves by up to "
        f"{found.maximum:.0%} ({found.neighbours} neighbours tried)"
    )
    if found.maximum <= STEADY:
        return Finding(Grade.GOOD, f"it is steady: {how}")
    if found.maximum <= UNSTEADY:
        return Finding(Grade.FAIR, f"it is not very steady: {how}", asked.instead(SMOOTHING))
    return Finding(Grade.BAD, f"it is unsteady: {how}", asked.instead(SMOOTHING))


# --------------------------------------------------------------------------------------------------------- all of them


def _overall(complete: Finding | None, order: Finding | None, foretold: Finding | None, steady: Finding | None, measures: Measure) -> Grade:
    """Bad where it neither ranks nor foretells, where it doesn't add up, or where the next instance would be explained
    otherwise. Good where it ranks or foretells well and nothing else is amiss; shares have to foretell, others only to rank."""
    useful = [f.grade for f in (order, foretold) if f is not None and f.grade is not Grade.UNKNOWN]
    firm = [f.grade for f in (complete, steady) if f is not None]
    if Grade.BAD in firm or (useful and all(g is Grade.BAD for g in useful)):
        return Grade.BAD
    if not useful:
        return Grade.UNKNOWN
    foretells = measures != "share" or foretold is None or foretold.grade is Grade.GOOD
    sound = foretells and Grade.GOOD in useful and Grade.BAD not in useful and Grade.FAIR not in firm
    return Grade.GOOD if sound else Grade.FAIR


_HEADS = {
    Grade.GOOD: "Trustworthy.",
    Grade.FAIR: "To be taken with care.",
    Grade.BAD: "Not trustworthy.",
    Grade.UNKNOWN: "Can't be judged.",
}


def _text(grade: Grade, findings: Sequence[Finding]) -> str:
    groups = {
        "Not good": [f for f in findings if f.grade is Grade.BAD],
        "Middling": [f for f in findings if f.grade is Grade.FAIR],
        "Good": [f for f in findings if f.grade is Grade.GOOD],
        "Can't be told": [f for f in findings if f.grade is Grade.UNKNOWN],
    }
    parts = [f"{name}: {'; '.join(f.words for f in group)}." for name, group in groups.items() if group]
    remedies = _distinct(remedy for f in findings if f.grade is not Grade.GOOD for remedy in f.remedies)
    helps = [f"What may help: {' or '.join(remedies)}."] if remedies and grade is not Grade.GOOD else []
    return " ".join([_HEADS[grade], *parts, *helps])


def _distinct(remedies: Iterable[str]) -> list[str]:
    """Each once, and one other method at most."""
    kinds = {remedy.partition(",")[0]: remedy for remedy in reversed(list(remedies))}
    return list(reversed(kinds.values()))


def _percent(value: float) -> str:
    return f"{value:.1%}" if value >= 0.001 else "< 0.1%"

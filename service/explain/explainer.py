"""Explains instances of one model: each a case, attributed by its method, with the figures that say how far to trust it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import BadParameter, DeadlineExceeded
from service.explain.answer import ExplainAnswer, Explanation
from service.explain.attribution import Found, attribute
from service.explain.attribution.found import Untrusted
from service.explain.cancel import TimeUp, Token
from service.explain.case import Case, scale
from service.explain.methods import ExplainRequest, require
from service.explain.methods.parameters import CommonParameters
from service.explain.methods.path import DEFAULT_TOLERANCE
from service.explain.quality import UNTRUSTED, judge
from service.explain.subject import Subject
from service.explain.targets import predicted

Arrays = Mapping[str, NDArray[Any]]
_UNTOLD = (set(CommonParameters.model_fields) - {"seed"}) | {"reference"}
"""Parameters that aren't told as they were used: what they ask for shows in the answer."""


def explain(subject: Subject, request: ExplainRequest, tensors: Arrays, token: Token, memory: int) -> ExplainAnswer:
    """One explanation for each row of `tensors` (n, ..), by graph input; `memory` bytes may go into one pass.

    Raises BadParameter (target, output, baseline), NotExplainable and ParityRefused (no gradients), DeadlineExceeded where
    there is no answer in time, Cancelled.
    """
    require(request.method, subject.status)
    if subject.reference and not request.reference:
        request = replace(request, reference=subject.reference)
    rows = len(next(iter(tensors.values())))
    targets = request.parameters.targets or [request.parameters.target] * rows
    if len(targets) != rows:
        raise BadParameter(f"parameter 'targets': {len(targets)} targets for {rows} instances")
    answered = []
    for i in range(rows):
        feeds = {name: np.ascontiguousarray(array[i : i + 1]) for name, array in tensors.items()}
        try:
            answered.append(_explained(Case(subject, request.of_row(i), feeds, targets[i], token, memory)))
        except TimeUp:
            raise DeadlineExceeded(f"no explanation within {request.timeout:g} s (parameter 'timeout')") from None
    if request.parameters.quality:  # after all explanations: what time is left is for judging them
        return ExplainAnswer(tuple(_judged(one, token.within(token.remaining / (rows - i))) for i, one in enumerate(answered)))
    return ExplainAnswer(tuple(one.explanation for one in answered))


def shapes(subject: Subject, request: ExplainRequest, tensors: Arrays) -> dict[str, tuple[int, ...]]:
    """Of a row's attributions, by input: the input's own. Methods by gradients reach the inputs that have an attributed
    tensor, the others every input."""
    inputs = subject.at if request.method.needs_twin else [i.name for i in subject.manifest.inputs]
    return {name: tensors[name].shape[1:] for name in inputs}


@dataclass(frozen=True, slots=True, eq=False)
class _Answered:
    case: Case
    found: Found | None
    """None where there is nothing to trust."""
    explanation: Explanation


def _explained(case: Case) -> _Answered:
    case.token.check()
    try:
        found = attribute(case)
    except Untrusted as error:
        return _Answered(case, None, _distrusted(case, str(error)))
    return _Answered(case, found, _answer(case, found))


def _judged(answered: _Answered, token: Token) -> Explanation:
    """The explanation with its trust figures and a verdict, in `token`'s time."""
    explanation = answered.explanation
    if answered.found is None:
        return replace(explanation, fields={**explanation.fields, "quality": None, "verdict": UNTRUSTED})
    judgement = judge(answered.case, answered.found, explanation.fields["completeness_error"], token)
    return replace(explanation, fields={**explanation.fields, "quality": judgement.quality, "verdict": judgement.verdict.text})


def _answer(case: Case, found: Found) -> Explanation:
    warnings = [*_cautions(case), *found.warnings]
    delta = completeness = None
    converged = found.converged and not found.timed_out
    if "completeness" in case.request.method.promises and found.baseline_output is not None:
        moved = case.instance_output - found.baseline_output
        delta = found.total - moved
        completeness = abs(delta) / scale(case.instance_output, found.baseline_output)
        tolerance = found.parameters.get("tolerance") or DEFAULT_TOLERANCE
        if completeness > tolerance:
            converged = False
            why = "the time was up" if found.timed_out else f"after {found.steps} steps"
            warnings.append(f"completeness error {completeness:.2g} is above the tolerance {tolerance:g} ({why})")
    figures = {
        "instance_output": case.instance_output,
        "baseline_output": found.baseline_output,
        "convergence_delta": delta,
        "completeness_error": completeness,
        "converged": converged,
        "timed_out": found.timed_out,
        "steps": found.steps,
        "rows": found.rows,
        "parameters": _resolved(case, found),
        **found.fields,
    }
    return Explanation(found.attributions, _fields(case, warnings) | figures)


def _cautions(case: Case) -> list[str]:
    """What is known of the model's twin that bears on this method."""
    if not case.request.method.needs_twin:
        return []
    status = case.subject.status
    cautions = [f"no gradient of the output reaches input {name!r}: its attributions are 0" for name in status.no_gradient]
    if status.straight_through:
        cautions.append(f"rounding has no gradient, so it is passed straight through: {', '.join(status.straight_through)}")
    return cautions


def _fields(case: Case, warnings: list[str]) -> dict[str, Any]:
    target, manifest = case.scalar.target, case.subject.manifest
    return {
        "method": case.request.method.name,
        "target": target.described,
        "explained": case.scalar.explained,
        **({"output": case.output.name} if len(manifest.outputs) > 1 else {}),
        "signed": not case.request.unsigned,
        "predicted_index": predicted(case.output, case.ran[case.output.name][0]),
        "target_index": target.index,
        "parity_error": case.parity if case.request.method.needs_twin else None,
        "precision": "float32",
        "warnings": warnings,
        "seconds": round(time.perf_counter() - case.started, 6),
    }


def _distrusted(case: Case, warning: str) -> Explanation:
    nothing = dict.fromkeys(("baseline_output", "convergence_delta", "completeness_error"))
    counts = {"converged": False, "timed_out": False, "steps": 0, "rows": 0, "parameters": {}}
    return Explanation(None, _fields(case, [warning]) | nothing | {"instance_output": case.instance_output} | counts)


def _resolved(case: Case, found: Found) -> dict[str, Any]:
    """All parameters as they were used."""
    own = case.request.parameters.model_dump(exclude=_UNTOLD)
    baseline = {"baseline": found.baseline} if found.baseline is not None else {}
    return own | dict(found.parameters) | baseline

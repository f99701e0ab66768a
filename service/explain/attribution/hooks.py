"""Guided backpropagation, deconvolution, DeepLIFT and layer-wise relevance propagation, by Captum on hooked layers."""

from __future__ import annotations

import functools

from service.explain.attribution.found import Found, Untrusted
from service.explain.attribution.hooked import EXPORTED, Hooked
from service.explain.attribution.problem import Problem, captum_class, first_rows, without_noise
from service.explain.attribution.relevance import relevance
from service.explain.case import Case, scale

COMPLETE = 1e-3
"""Relative completeness error up to which a DeepLIFT is one: it is exact but for rounding, or wrong."""


def run(case: Case) -> Found:
    match case.request.method.name:
        case "deep_lift":
            return _deep_lift(case)
        case "lrp":
            return relevance(case)
        case _:
            return _by_relu(case)


def _by_relu(case: Case) -> Found:
    method, problem = case.request.method, Problem.of(case)
    captum = captum_class(method)(Hooked(case, problem, method))
    found = without_noise(lambda: captum.attribute(problem.leaves, additional_forward_args=problem.arguments))
    return Found(problem.attributions(first_rows(found)), 1, 1, parameters=EXPORTED)


def _deep_lift(case: Case) -> Found:
    method, problem = case.request.method, Problem.of(case)
    captum = captum_class(method)(Hooked(case, problem, method))
    baseline = problem.of_active(case.baseline.point)
    attribute = functools.partial(captum.attribute, problem.leaves, baseline, additional_forward_args=problem.arguments)
    attributions = problem.attributions(first_rows(without_noise(attribute)))
    chosen = {**EXPORTED, "tolerance": COMPLETE}
    compared = {"baseline": case.baseline.described, "baseline_output": case.baseline.output}
    found = Found(attributions, 1, 2, parameters=chosen, **compared)
    must_be_complete(case, found)
    return found


def must_be_complete(case: Case, found: Found) -> None:
    """Raises Untrusted where the attributions don't add up to what they explain."""
    assert found.baseline_output is not None  # both methods compare with something
    error = abs(found.total - (case.instance_output - found.baseline_output)) / scale(case.instance_output, found.baseline_output)
    if not error <= COMPLETE:
        raise Untrusted(
            f"the attributions add up to {found.total:.4g}, the output moved by {case.instance_output - found.baseline_output:.4g} "
            f"(completeness error {error:.2g}, limit {COMPLETE:g}): {case.request.method.title} doesn't hold here"
        )

"""One pass forward and backward: saliency, input times gradient."""

from __future__ import annotations

from service.explain.attribution.found import Found
from service.explain.attribution.problem import Problem, arguments_of, captum_class, first_rows
from service.explain.case import Case


def run(case: Case) -> Found:
    method, problem = case.request.method, Problem.of(case)
    captum = captum_class(method)(problem.reordered)
    arguments = arguments_of(method, case.request.parameters)
    found = captum.attribute(problem.leaves, additional_forward_args=problem.arguments, **arguments)
    return Found(problem.attributions(first_rows(found)), 1, 1)

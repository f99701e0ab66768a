"""SmoothGrad, SmoothGrad squared and VarGrad: a method's mean, mean square or variance over noisy copies of the instance.

Captum's NoiseTunnel draws as it computes, so that its answer depends on how many rows go into a pass. Here the noise of each
copy is drawn by itself, as the tunnel draws it with one copy a pass, whatever the memory allows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from service.errors import NotExplainable
from service.explain.attribution.found import Found
from service.explain.attribution.hooked import EXPORTED, Hooked
from service.explain.attribution.problem import Problem, captum_class, expanded, without_noise
from service.explain.attribution.span import spans
from service.explain.cancel import TimeUp
from service.explain.case import Case, Tensors
from service.explain.methods import find, refusal
from service.explain.methods.method import Method
from service.explain.methods.noise import NODES, NoiseParameters

At = Callable[[Tensors], Tensors]
"""The averaged method's attributions (n, ..) at points (n, ..)."""


def run(case: Case) -> Found:
    parameters = case.request.parameters
    assert isinstance(parameters, NoiseParameters)  # the table says so
    over, problem = find(parameters.over), Problem.of(case)
    if reason := refusal(over, case.subject.status):
        raise NotExplainable(f"parameter 'over': {over.title} can't be had of this model: {reason}")
    at = _method_at(case, problem, over, parameters)
    point = problem.of_active(case.point)
    deviations = tuple((parameters.noise * s).expand_as(p) for s, p in zip(problem.of_active(spans(case)), point, strict=True))
    generator = torch.Generator().manual_seed(parameters.seed)
    at_once = max(1, case.rows // 2) if over.name == "deep_lift" else case.rows
    sums: list[Tensor] = []
    squares: list[Tensor] = []
    done, timed_out = 0, False
    try:
        while done < parameters.n_samples:
            n = min(at_once, parameters.n_samples - done)
            found = [f.detach().double() for f in at(_copies(point, deviations, n, generator))]
            sums = [a + f.sum(0) for a, f in zip(sums or [torch.zeros(())] * len(found), found, strict=True)]
            squares = [a + (f**2).sum(0) for a, f in zip(squares or [torch.zeros(())] * len(found), found, strict=True)]
            done += n
    except TimeUp:
        if not done:
            raise
        timed_out = True
    pairs = zip(sums, squares, strict=True)
    result = tuple(_smoothed(case.request.method.name, a / done, b / done).float() for a, b in pairs)
    warnings = (f"the time was up after {done} of {parameters.n_samples} noisy copies",) if timed_out else ()
    chosen: dict[str, Any] = {**(EXPORTED if "modules" in over.needs else {}), "n_samples": done}
    baseline = {"baseline": case.baseline.described} if "baseline" in over.needs else {}
    rows = done * {"integrated_gradients": NODES, "deep_lift": 2}.get(over.name, 1)
    return Found(problem.attributions(result), done, rows, timed_out, parameters=chosen, warnings=warnings, **baseline)


def _smoothed(kind: str, mean: Tensor, square: Tensor) -> Tensor:
    match kind:
        case "smoothgrad":
            return mean
        case "smoothgrad_squared":
            return square
        case _:
            return square - mean * mean


def _copies(point: Tensors, deviations: Tensors, n: int, generator: torch.Generator) -> Tensors:
    """n noisy copies (n, ..), drawn one after the other."""
    drawn = [[p + torch.normal(0.0, d, generator=generator) for p, d in zip(point, deviations, strict=True)] for _ in range(n)]
    return tuple(torch.cat(column).requires_grad_() for column in zip(*drawn, strict=True))


def _method_at(case: Case, problem: Problem, over: Method, parameters: NoiseParameters) -> At:
    hooked = "modules" in over.needs
    captum = captum_class(over)(Hooked(case, problem, over) if hooked else problem.reordered)
    more: dict[str, Any] = {}
    if over.name == "saliency":
        more["abs"] = parameters.absolute
    if "baseline" in over.needs:
        more["baselines"] = problem.of_active(case.baseline.point)
    if over.name == "integrated_gradients":
        more |= {"n_steps": NODES, "internal_batch_size": case.rows}

    def at(points: Tensors) -> Tensors:
        rows = len(points[0])
        given = more | ({"baselines": expanded(more["baselines"], rows)} if "baselines" in more else {})
        call = functools.partial(captum.attribute, points, additional_forward_args=expanded(problem.arguments, rows), **given)
        return tuple(without_noise(call))

    return at

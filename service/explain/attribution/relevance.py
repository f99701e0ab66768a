"""Layer-wise relevance propagation by Captum's rules, also through the operators that a graph has no module for.

Captum (0.9) has rules for some layers and leaves plain functions to autograd, which hands each summand of a sum all of its
relevance and scales relevance where values are scaled. So here linear functions become layers with the epsilon rule, which
divides relevance by contribution, scaling by a constant has the identity rule, and operators that move values stay what
they are. For a ReLU network the epsilon rule is then input times gradient
(Ancona et al. 2018, https://arxiv.org/abs/1711.06104), but behind the graph's own scaling of its inputs.
"""

from __future__ import annotations

import numpy as np
import torch
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule, IdentityRule, PropagationRule
from torch import nn

from service.explain.attribution.found import Found, Untrusted
from service.explain.attribution.hooked import EXPORTED, FunctionLayer, Hooked
from service.explain.attribution.problem import Problem, captum_class, first_rows, without_noise
from service.explain.carry import PASSED, Use
from service.explain.case import Case
from service.explain.methods.hooks import LrpParameters

_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def relevance(case: Case) -> Found:
    """Relevance of the attributed tensors, computed in float64: the rules divide by what layers give, and where that is near 0
    float32 leaves few digits. Raises NotExplainable, Untrusted."""
    method, problem, parameters = case.request.method, Problem.of(case), case.request.parameters
    assert isinstance(parameters, LrpParameters)  # the table says so
    hooked = Hooked(case, problem, method, _layer_for, torch.float64)
    for layer in hooked.children():
        if type(layer) not in PASSED:
            layer.rule = _rule(layer, parameters)  # Captum looks for it there
    captum = captum_class(method)(hooked)
    leaves = tuple(t.detach().double().requires_grad_() for t in problem.leaves)
    found = without_noise(lambda: captum.attribute(leaves, additional_forward_args=problem.arguments))
    attributions = problem.attributions(first_rows(found))
    if not all(np.isfinite(a).all() for a in attributions.values()):
        raise Untrusted("relevance became infinite on the way: a layer's output is 0 there")
    return Found(attributions, 1, 2, parameters={**EXPORTED, "computed_in": "float64"})


def _layer_for(use: Use) -> FunctionLayer | None:
    if use.moves or _shifts(use):
        return None
    return _Scaling() if _scales(use) else FunctionLayer()


class _Scaling(FunctionLayer):
    """Of each value by a constant: its relevance stays its own."""


def _scales(use: Use) -> bool:
    return use.step.node.op_type in ("Mul", "Div", "Neg") and len(use.active) == 1


def _shifts(use: Use) -> bool:
    """By a constant: relevance passes as it is, by its gradient of 1."""
    return (use.step.node.op_type == "Add" and len(use.active) == 1) or (use.step.node.op_type == "Sub" and use.active == (0,))


def _rule(layer: nn.Module, parameters: LrpParameters) -> PropagationRule:
    if isinstance(layer, _Scaling):
        return IdentityRule(parameters.epsilon)
    if isinstance(layer, _WEIGHTED) and parameters.rule == "gamma":
        return GammaRule(parameters.gamma)
    if isinstance(layer, _WEIGHTED) and parameters.rule == "alpha1_beta0":
        return Alpha1_Beta0_Rule()
    return EpsilonRule(parameters.epsilon)

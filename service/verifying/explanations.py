"""What can be explained of a bundle, how well its twin agrees, and how far explanations of its own instances can be trusted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from service.errors import WhyserveError
from service.explain.cancel import Token
from service.explain.explainer import explain
from service.explain.loading import load
from service.explain.methods import METHODS, resolve
from service.explain.methods.listing import refusal, supported
from service.explain.methods.method import Method
from service.explain.quality.parity import parity_at, plausible
from service.explain.quality.randomise import Survival, survivals
from service.explain.subject import Subject
from service.repository.loaded import LoadedModel
from service.verifying.report import Check, State
from service.verifying.serving import Row

BATCHES = (1, 2, 5)
MEMORY = 64 * 2**20
"""Bytes of a pass, as an explainer of 2 GiB has them."""
SECONDS = 60.0
"""For one explanation and its figures."""
RANDOMISED_ROWS = 64
"""Methods by gradients of at most so many rows are tried on the randomised model. Those by perturbation ask the model itself and
can't help following it; those of regions are made of the others."""


def explanation_checks(model: LoadedModel, rows: Sequence[Row], n: int) -> Iterator[Check]:
    try:
        subject = load(model.bundle)
    except (WhyserveError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        yield Check("twin", State.FAILED, f"it can't be built: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
        return
    yield from _twin(model, subject)
    methods = list(supported(subject.manifest, subject.status))
    yield from _methods(subject, methods)
    default = resolve(subject.manifest, {}).method
    instances = _instances(model, subject, rows, n)
    if default in methods and instances:
        yield from _trust(subject, default, instances, "golden requests" if rows else "plausible random inputs")
        yield _randomised(model, subject, methods, instances)


def _twin(model: LoadedModel, subject: Subject) -> Iterator[Check]:
    status = subject.status
    if status.reason:
        # A tree has no gradients, and methods by perturbation explain it; but a twin that computes something else is a fault.
        yield Check("twin", State.FAILED if status.beyond_parity else State.NOTE, f"none: {status.reason}")
        return
    errors = {rows: parity_at(subject, plausible(model.bundle, subject, rows)) for rows in BATCHES}
    known = {rows: error for rows, error in errors.items() if error is not None}
    layers = len(subject.faithful.modules_by_node)
    if not known:
        yield Check("twin", State.NOTE, "it was built, but no trial input ran through the model: each explanation compares it anew")
    else:
        worst = max(known.values())
        agrees = worst <= status.parity_limit
        said = "computes what is served" if agrees else "computes something else than what is served"
        words = (
            f"{said}: parity error {worst:.2g} at batches of {_listed(map(str, known))}, limit {status.parity_limit:.2g}; {layers} layers"
        )
        yield Check("twin", State.GOOD if agrees else State.FAILED, words, {"parity_error": worst, "layers": layers})
    remarks = [f"no gradient passes {_listed(status.gradient_gaps)} (computed in numpy)"] if status.gradient_gaps else []
    remarks += [f"no gradient reaches input {_listed(status.no_gradient)}: its attributions are 0"] if status.no_gradient else []
    remarks += [f"{_listed(status.straight_through)} round: gradients pass them as if they didn't"] if status.straight_through else []
    if remarks:
        yield Check("gradients", State.NOTE, "; ".join(remarks))


def _methods(subject: Subject, methods: Sequence[Method]) -> Iterator[Check]:
    names = [method.name for method in methods]
    default = resolve(subject.manifest, {}).method
    yield Check("methods", State.GOOD if names else State.NOTE, f"{len(names)}: {_listed(names)}" if names else "none")
    refused = {method.name: reason for method in METHODS.values() if (reason := refusal(method, subject.status))}
    unsupported = [name for name in METHODS if name not in names and name not in refused]
    by_reason: dict[str, list[str]] = {}
    for name, reason in refused.items():
        by_reason.setdefault(reason, []).append(name)
    words = [f"{_listed(those)}: {reason}" for reason, those in by_reason.items()]
    if unsupported:
        words.append(f"{_listed(unsupported)}: nothing here that they need (a reference set, or a picture)")
    if words:
        yield Check("not possible", State.NOTE, "; ".join(words), {"refused": refused})
    if default.name not in names:
        yield Check("default", State.FAILED, f"the manifest's default method {default.name} can't explain this model")


def _instances(model: LoadedModel, subject: Subject, rows: Sequence[Row], n: int) -> list[dict[str, Any]]:
    """(1, ..) by graph input: the golden requests' own, else plausible ones."""
    if rows:
        return [{name: np.asarray(tensor)[None] for name, tensor in row.items()} for row in rows[:n]]
    feeds = plausible(model.bundle, subject, n)
    return [{name: array[i : i + 1] for name, array in feeds.items()} for i in range(n)]


def _trust(subject: Subject, default: Method, instances: Sequence[Mapping[str, Any]], whose: str) -> Iterator[Check]:
    request = resolve(subject.manifest, {"method": default.name, "quality": True})
    for number, feeds in enumerate(instances):
        name = f"trust {number + 1}/{len(instances)}"
        try:
            (found,) = explain(subject, request, feeds, Token(SECONDS), MEMORY).explanations
        except WhyserveError as error:
            yield Check(name, State.FAILED, f"{default.name} of {whose}: {error}")
            continue
        verdict = str(found.fields["verdict"])
        state = State.GOOD if verdict.startswith("Trustworthy") else State.NOTE
        yield Check(name, state, f"{default.name} of {whose}: {verdict}", {"quality": found.fields["quality"]})


def _randomised(model: LoadedModel, subject: Subject, methods: Sequence[Method], instances: Sequence[Mapping[str, Any]]) -> Check:
    names = [m.name for m in methods if m.needs_twin and m.family != "region" and m.rows(m.parameters()) <= RANDOMISED_ROWS]
    found = list(survivals(model.bundle, subject, instances, names, Token(SECONDS * len(instances)), MEMORY)) if names else []
    known = [one for one in found if one.all_layers is not None]
    if not known:
        return Check("randomised", State.SKIPPED, "no layers with weights to shuffle, or too little in these instances to compare")
    figures = {one.method: {"last_layer": one.last_layer, "all_layers": one.all_layers} for one in found}
    survivors = [one for one in known if one.survives]
    indifferent = [one for one in known if one.indifferent and not one.survives]
    fine = [one.method for one in known if not one.survives and not one.indifferent]
    words = [f"with every layer's weights shuffled, explanations change as they should: {_listed(fine)}"] if fine else []
    if survivors:
        words.append(f"these stay alike (rank correlation), so they show the input rather than what is learnt: {_shown(survivors)}")
    if indifferent:
        these = _listed([one.method for one in indifferent])
        words.append(f"with only the last layer's shuffled, these hardly change, so they hardly depend on the target: {these}")
    return Check("randomised", State.NOTE if survivors or indifferent else State.GOOD, "; ".join(words), figures)


def _shown(survivors: Sequence[Survival]) -> str:
    return _listed([f"{one.method} ({one.all_layers:.2f})" for one in survivors])


def _listed(names: Any) -> str:
    return ", ".join(names)

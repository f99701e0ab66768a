"""A gradient graph in ONNX Runtime, held against the twin's autograd before it is used."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from service.engine.session import Session
from service.explain.gradient_graph.build import SEED, differentiated
from service.explain.gradient_graph.rules import Uncovered
from service.explain.inferred import inferred
from service.explain.served import behind, known_of, session_of
from service.explain.subject import Subject

log = logging.getLogger("whyserve.explainer")
Array = NDArray[Any]
AGREES = 1e-4
"""Relative distance (L2) from the twin's gradients up to which both are the same: float32 summed in another order is some 1e-6."""
LARGEST = 16 * 2**20
"""Bytes of a model's weights up to which it is differentiated: a large model's time is in computing, where this gains nothing."""


@dataclass(frozen=True, eq=False)
class GradientGraph:
    """Differentiates `tensor` in the attributed tensors."""

    tensor: str
    wrt: tuple[str, ...]
    shown: tuple[str, ...]
    session: Session

    @cached_property
    def row(self) -> tuple[int, ...]:
        """The shape of the tensor's rows."""
        (shape,) = (info.shape for info in self.session.inputs if info.name == SEED)
        return tuple(size or 0 for size in shape[1:])

    def run(self, feeds: Mapping[str, Array], seed: Array) -> tuple[list[Array], dict[str, Array]]:
        """Gradients (N, ..) of sum(seed * tensor), one for each of `wrt`, and the tensors `shown`, for inputs (N, ..) and a seed of
        the tensor's shape, float32. Raises ModelFailed."""
        wanted = {info.name: np.ascontiguousarray(seed if info.name == SEED else feeds[info.name]) for info in self.session.inputs}
        found = self.session.run(wanted)
        return found[: len(self.wrt)], dict(zip(self.shown, found[len(self.wrt) :], strict=True))


def gradient_graph(model: onnx.ModelProto, subject: Subject, threads: int, trials: Sequence[Mapping[str, Array]]) -> GradientGraph | None:
    """Of the first output's logits, or its values; None where rows can't share a pass, where a rule is missing, or where its gradients
    aren't those of the twin at the `trials`, inputs (N, ..) by name."""
    status = subject.status
    if not status.usable or status.one_row or status.straight_through or status.gradient_gaps:
        return None
    if subject.device.on_gpu or not subject.manifest.batching.rows_independent:
        return None
    if any(info.shape and info.shape[0] is not None for info in subject.served.inputs):
        return None
    tensor, wrt = subject.logits.get(subject.outputs[0], subject.outputs[0]), tuple(subject.at.values())
    shown = tuple(dict.fromkeys((tensor, *subject.outputs)))
    try:
        if model.ByteSize() > LARGEST:
            return None
        part = behind(model, [*wrt, *subject.others], shown, known_of(inferred(model)))
        made = GradientGraph(tensor, wrt, shown, session_of(differentiated(part, tensor, wrt, shown), threads))
        worst = max((_distance(made, subject, feeds) for feeds in trials), default=np.inf)
    except Uncovered as why:
        log.info("gradients of %s by the twin: %s", subject.manifest.name, why)
        return None
    except Exception as error:  # a file may say anything, and there is the twin
        log.warning("the gradient graph of %s isn't used: %r", subject.manifest.name, error)
        return None
    if not worst <= AGREES:
        log.warning("the gradient graph of %s isn't used: %.3g away from the twin's gradients", subject.manifest.name, worst)
        return None
    return made


def inputs_of(subject: Subject, feeds: Mapping[str, Array], ran: Mapping[str, Array]) -> dict[str, Array]:
    """The attributed tensors and others (N, ..) by name, for inputs that gave `ran`."""
    return {tensor: feeds[name] if tensor == name else ran[tensor] for name, tensor in subject.at.items()} | {
        name: feeds[name] for name in subject.others
    }


def _distance(made: GradientGraph, subject: Subject, feeds: Mapping[str, Array]) -> float:
    """From the twin's gradients, relative (L2), for a random seed."""
    inputs = inputs_of(subject, feeds, subject.served.run(feeds))
    tensors = [torch.from_numpy(array.copy()) for array in inputs.values()]
    leaves = [t.requires_grad_() for t in tensors[: len(made.wrt)]]
    with torch.enable_grad():
        (values,) = subject.segment((made.tensor,))(*tensors)
        seed = np.random.default_rng(0).standard_normal(tuple(values.shape)).astype(np.float32)
        total = (values * torch.from_numpy(seed)).sum()  # not grad_outputs, for which torch imports sympy: 34 MiB
        wanted = [g.numpy() for g in torch.autograd.grad(total, leaves)]
    found, _ = made.run(inputs, seed)
    norm = float(np.sqrt(sum(float((w.astype(np.float64) ** 2).sum()) for w in wanted)))
    away = float(np.sqrt(sum(float(((f - w).astype(np.float64) ** 2).sum()) for f, w in zip(found, wanted, strict=True))))
    return away / norm if norm else (np.inf if away else 0.0)

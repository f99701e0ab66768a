"""Explains instances of one model: target, baseline, Captum on the twin, and the figures that say how far to trust it."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.errors import BadParameter, DeadlineExceeded
from service.explain import baselines, scalar
from service.explain.answer import ExplainAnswer, Explanation
from service.explain.attribution import Found, Problem, attribute
from service.explain.cancel import TimeUp, Token
from service.explain.integrate import Places, Tensors, along
from service.explain.memory import Saved, rows_within
from service.explain.methods import DEFAULT_TOLERANCE, CommonParameters, ExplainRequest, require
from service.explain.parity import parity_error
from service.explain.scalar import Scalar
from service.explain.subject import Subject, attributed
from service.explain.targets import predicted
from service.manifest import Output

Array = NDArray[Any]
Arrays = Mapping[str, Array]
FORWARD_ROWS = 32
"""Rows of a forward pass of the served model, which keeps nothing for a backward one."""


def explain(subject: Subject, request: ExplainRequest, tensors: Arrays, token: Token, memory: int) -> ExplainAnswer:
    """One explanation for each row of `tensors` (n, ..), by graph input; `memory` bytes may go into one pass.

    Raises BadParameter (target, output, baseline), NotExplainable and ParityRefused (no gradients), DeadlineExceeded where
    there is no answer in time, Cancelled.
    """
    require(request.method, subject.status)
    rows = len(next(iter(tensors.values())))
    targets = request.parameters.targets or [request.parameters.target] * rows
    if len(targets) != rows:
        raise BadParameter(f"parameter 'targets': {len(targets)} targets for {rows} instances")
    explanations = []
    for i in range(rows):
        feeds = {name: np.ascontiguousarray(array[i : i + 1]) for name, array in tensors.items()}
        try:
            explanations.append(_Instance.of(subject, request, feeds, targets[i], token, memory).explained())
        except TimeUp:
            raise DeadlineExceeded(f"no explanation within {request.timeout:g} s (parameter 'timeout')") from None
    return ExplainAnswer(tuple(explanations))


def shapes(subject: Subject, tensors: Arrays) -> dict[str, tuple[int, ...]]:
    """Of a row's attributions, by input: the input's own."""
    return {name: tensors[name].shape[1:] for name in subject.at}


@dataclass(frozen=True, slots=True, eq=False)
class _Instance:
    """One row on its way to its explanation."""

    subject: Subject
    request: ExplainRequest
    feeds: Arrays
    ran: Arrays
    """What the served model answered: outputs and attributed tensors."""
    output: Output
    scalar: Scalar
    token: Token
    memory: int
    started: float

    @classmethod
    def of(cls, subject: Subject, request: ExplainRequest, feeds: Arrays, target: Any, token: Token, memory: int) -> _Instance:
        started = time.perf_counter()
        ran = subject.served.run(feeds)
        name = request.parameters.output or subject.manifest.outputs[0].name
        output = next(o for o in subject.manifest.outputs if o.name == name)
        chosen = scalar.choose(subject.manifest, output, request.parameters.explained, target, ran, subject.logits)
        return cls(subject, request, feeds, ran, output, chosen, token, memory, started)

    def explained(self) -> Explanation:
        self.token.check()
        parity, bytes_a_row = self._parity()
        if not parity <= self.subject.status.parity_limit:
            return self._distrusted(parity)
        chosen = baselines.choose(self._baseline_spec(), self.subject.manifest, list(self.subject.at), self.feeds)
        instance, baseline = tuple(attributed(self.subject, self.feeds, self.ran)), self._baseline(chosen)
        f_x, f_b = (float(self._served((point,))[0]) for point in (instance, baseline))
        problem = Problem(
            forward=self._forward,
            point=instance,
            baseline=baseline,
            others=tuple(torch.from_numpy(self.feeds[name].copy()) for name in self.subject.others),
            passive=tuple(i for i, name in enumerate(self.subject.at) if name in self.subject.status.no_gradient),
            heights=functools.partial(self._heights, baseline, instance, {0.0: f_b, 1.0: f_x}),
            allowed=self._tolerance() * scale(f_x, f_b),
            rows=rows_within(self.memory, bytes_a_row),
        )
        return self._answer(attribute(self.request, problem), chosen, parity, f_x, f_b)

    # ------------------------------------------------------------------------------------------- the served model

    def _served(self, points: Sequence[Tensors]) -> Array:
        """F in float32 at points (N, ..) of the attributed tensors, one after the other, (N,) in all."""
        return np.concatenate(
            [self._served_chunk(tuple(t[i : i + FORWARD_ROWS] for t in p)) for p in points for i in range(0, len(p[0]), FORWARD_ROWS)]
        )

    def _served_chunk(self, point: Tensors) -> Array:
        self.token.check()
        rows = len(point[0])
        others = {name: np.repeat(self.feeds[name], rows, 0) for name in self.subject.others}
        ran = self.subject.served.tail(dict(zip(self.subject.at.values(), (t.numpy() for t in point), strict=True)) | others)
        return self.scalar.of_array(ran[self.scalar.tensor]).astype(np.float32)

    def _heights(self, start: Tensors, end: Tensors, known: dict[float, float], places: Places) -> Places:
        """F at places of the path, those in `known` without asking."""
        asked = np.asarray([p for p in places.tolist() if p not in known])
        if len(asked):
            known |= dict(zip(asked.tolist(), self._served((along(start, end, asked),)).tolist(), strict=True))
        return np.asarray([known[p] for p in places.tolist()])

    def _baseline_spec(self) -> Any:
        return getattr(self.request.parameters, "baseline", None)

    def _baseline(self, chosen: Mapping[str, baselines.Chosen]) -> Tensors:
        """The attributed tensors (1, ..) at the baseline: filled, or what the served model makes of the input's baseline."""
        replaced = {name: np.ascontiguousarray(c.input) for name, c in chosen.items() if c.input is not None}
        ran = self.subject.served.run({**self.feeds, **replaced}) if replaced else self.ran
        points = attributed(self.subject, {**self.feeds, **replaced}, ran)
        return tuple(
            t if chosen[name].input is not None else torch.full_like(t, chosen[name].fill)
            for name, t in zip(self.subject.at, points, strict=True)
        )

    # ------------------------------------------------------------------------------------------------------ the twin

    def _parity(self) -> tuple[float, int]:
        """The parity error of this instance, and the bytes that a row's backward pass needs."""
        saved = Saved()
        with torch.enable_grad(), saved.counting(self.subject.weights):
            leaves = [t.requires_grad_() for t in attributed(self.subject, self.feeds, self.ran)]
            segment = self.subject.segment(self.subject.outputs)
            outputs = segment(*leaves, *(self.feeds[name] for name in self.subject.others))
        got = {name: o.detach().numpy() for name, o in zip(segment.output_names, outputs, strict=True)}
        return parity_error(got, {name: self.ran[name] for name in self.subject.outputs}), saved.bytes

    def _forward(self, *tensors: Tensor) -> Tensor:
        """F (N,) of the twin, from the attributed tensors and the other inputs."""
        self.token.check()
        (values,) = self.subject.segment((self.scalar.tensor,))(*tensors)
        return self.scalar.of(values)

    # ---------------------------------------------------------------------------------------------------- the answer

    def _fields(self, parity: float, warnings: list[str]) -> dict[str, Any]:
        target = self.scalar.target
        several = {"output": self.output.name} if len(self.subject.manifest.outputs) > 1 else {}
        return {
            "method": self.request.method.name,
            "target": target.described,
            "explained": self.scalar.explained,
            **several,
            "predicted_index": predicted(self.output, self.ran[self.output.name][0]),
            "target_index": target.index,
            "parity_error": parity,
            "precision": "float32",
            "warnings": warnings,
            "seconds": round(time.perf_counter() - self.started, 6),
        }

    def _distrusted(self, parity: float) -> Explanation:
        warning = (
            f"on this instance the model's twin differs from the served model (parity error {parity:.2g}, limit "
            f"{self.subject.status.parity_limit:.2g}), so there is no explanation to trust"
        )
        nothing = dict.fromkeys(("instance_output", "baseline_output", "convergence_delta", "completeness_error"))
        f_x = float(self.scalar.of_array(self.ran[self.scalar.tensor])[0])
        counts = {"converged": False, "steps": 0, "rows": 0, "parameters": {}}
        return Explanation(None, self._fields(parity, [warning]) | nothing | {"instance_output": f_x} | counts)

    def _answer(self, found: Found, chosen: Mapping[str, baselines.Chosen], parity: float, f_x: float, f_b: float) -> Explanation:
        warnings = [f"no gradient of the output reaches input {name!r}: its attributions are 0" for name in self.subject.status.no_gradient]
        uses_baseline = "baseline" in self.request.method.needs
        delta = completeness = None
        converged = True
        if "completeness" in self.request.method.promises:
            delta = float(sum(t.double().sum() for t in found.attributions)) - (f_x - f_b)
            completeness = abs(delta) / scale(f_x, f_b)
            tolerance = self._tolerance()
            converged = completeness <= tolerance
            if not converged:
                why = "the time was up" if found.timed_out else f"after {found.steps} steps"
                warnings.append(f"completeness error {completeness:.2g} is above the tolerance {tolerance:g} ({why})")
        attributions = {
            name: _as_input(t.numpy(), self.feeds[name].shape[1:]) for name, t in zip(self.subject.at, found.attributions, strict=True)
        }
        figures = {
            "instance_output": f_x,
            "baseline_output": f_b if uses_baseline else None,
            "convergence_delta": delta,
            "completeness_error": completeness,
            "converged": converged,
            "steps": found.steps,
            "rows": found.rows,
            "parameters": self._resolved(chosen if uses_baseline else {}),
        }
        return Explanation(attributions, self._fields(parity, warnings) | figures)

    def _tolerance(self) -> float:
        return getattr(self.request.parameters, "tolerance", None) or DEFAULT_TOLERANCE

    def _resolved(self, chosen: Mapping[str, baselines.Chosen]) -> dict[str, Any]:
        """All parameters as they were used."""
        own = self.request.parameters.model_dump(exclude=set(CommonParameters.model_fields) - {"seed"})
        if self.request.method.integrates:
            fixed = own.get("steps") is not None
            own |= {"tolerance": None if fixed else self._tolerance(), "rule": "gauss-legendre" if fixed else "midpoints, adaptive"}
        described = {name: c.described for name, c in chosen.items()}
        baseline = next(iter(described.values())) if len(described) == 1 else described
        return own | ({"baseline": baseline} if described else {})


def scale(f_x: float, f_b: float) -> float:
    """What API.md's completeness error is relative to."""
    return max(abs(f_x - f_b), 0.01 * max(1.0, abs(f_x)))


def _as_input(attributions: Array, shape: tuple[int, ...]) -> Array:
    """Attributions of an input's tensor as the input has its values: one number a token or class, summed over the rest."""
    if attributions.ndim > len(shape):
        attributions = attributions.sum(tuple(range(len(shape), attributions.ndim)))
    return np.asarray(attributions, np.float32)

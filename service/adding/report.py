"""What `whyserve add` says at the end: what was made, what was changed, what can be explained, what can't and why."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.adding.checks import Explainable
from service.adding.trial import Trial
from service.explain.methods.table import METHODS
from service.manifest import Input, Manifest, Output

_WIDTH = 110


@dataclass(frozen=True, slots=True)
class Report:
    manifest: Manifest
    explainable: Explainable
    trial: Trial
    changes: tuple[str, ...]
    notes: tuple[str, ...]
    folder: Path
    dry_run: bool

    def text(self) -> str:
        made = "nothing written (--dry-run); it would be" if self.dry_run else "made"
        lines = [f"{made} {self.folder}"]
        lines += [f"  input   {_input(i)}" for i in self.manifest.inputs]
        lines += [f"  output  {_output(o)}" for o in self.manifest.outputs]
        for title, points in (
            ("checked", tuple(self._checked())),
            ("changed in the graph", self.changes),
            ("explained", tuple(self._explained())),
            ("note", self.notes),
        ):
            if points:
                lines += [title, *_points(points)]
        return "\n".join(lines)

    def _checked(self) -> Iterator[str]:
        yield "the onnx checker finds no fault" + ("" if self.trial.problem else "; ONNX Runtime runs it on trial inputs")
        if not self.trial.deterministic:
            yield "the same input gives different answers: the model draws random numbers; requests don't share a batch"
        elif self.trial.independent:
            yield "a row's answer is the same alone and among others: requests share a batch"
        elif self.trial.independent is False:
            yield "a row's answer depends on the rows beside it: requests don't share a batch"
        else:
            yield "whether rows are independent couldn't be measured: requests don't share a batch"
        status = self.explainable.status
        if status is not None and status.parity_error is not None:
            what = "something else" if status.beyond_parity else "the same"
            yield f"the model's twin in torch computes {what}: parity error {status.parity_error:.2g}, limit {status.parity_limit:.2g}"
        elif status is not None and not status.reason:
            yield "the model's twin was built but no trial input ran through it: each explanation compares it anew"

    def _explained(self) -> Iterator[str]:
        status = self.explainable.status
        if status is None:
            yield f"not looked at: {self.explainable.problem}"
            return
        names = self.explainable.methods
        with_gradients = [name for name in names if METHODS[name].needs_twin]
        without = [name for name in names if not METHODS[name].needs_twin]
        if with_gradients:
            first = self.manifest.outputs[0]
            what = {"logit": "the logit", "probability": "the probability", "value": "the value"}[self.manifest.explain.output]  # type: ignore[union-attr]
            yield f"with gradients of {what} of {first.name!r}: {', '.join(with_gradients)}"
        if status.reason:
            yield f"not with gradients: {status.reason}"
        yield from (f"{name} not: {reason}" for name, reason in status.refused.items())
        if without:
            yield f"by changing the input and asking the model again: {', '.join(without)}"
        if not names:
            yield "by no method"
        if status.no_gradient and status.usable:
            yield f"inputs that no gradient reaches (their attributions are 0): {', '.join(status.no_gradient)}"
        if status.straight_through:
            yield f"operators that round, whose gradient is taken as if they didn't: {', '.join(status.straight_through)}"
        default = self.manifest.explain.method if self.manifest.explain else ""
        if default in names:
            yield f"by default: {default}"
        yield from self._places()

    def _places(self) -> Iterator[str]:
        at = self.manifest.explain.attribute_at if self.manifest.explain else {}
        yield from (f"input {name!r} is attributed at {tensor!r}, where it becomes floats" for name, tensor in at.items())
        strings = [i.name for i in self.manifest.inputs if i.dtype == "string"]
        if strings:
            yield f"strings have no gradient, and nothing to put in their place is known: no attributions for {', '.join(strings)}"


def _points(points: Sequence[str]) -> list[str]:
    return [textwrap.fill(point, _WIDTH, initial_indent="  - ", subsequent_indent="    ", break_long_words=False) for point in points]


def _input(declared: Input) -> str:
    return f"{declared.name}: {declared.codec}, {declared.dtype} {_shown(declared.shape)} a row"


def _output(declared: Output) -> str:
    labels = ", ".join(declared.labels[:5]) + (f", .. ({len(declared.labels)})" if len(declared.labels) > 5 else "")
    activated = {"none": ""}.get(declared.activation, f", {declared.activation}" + (" in the graph" if declared.activated else ""))
    return f"{declared.name}: {declared.kind}, {declared.dtype} {_shown(declared.shape)} a row{activated}{': ' + labels if labels else ''}"


def _shown(shape: Sequence[int | None]) -> str:
    return str(["any" if size is None else size for size in shape]).replace("'", "")

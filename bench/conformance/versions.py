"""Every operator in every version that opset 7 or a later one names, as one-node models on the twin and on ONNX Runtime.

The backend suite has few old opsets. Its one-node cases are declared for the older version, where the onnx checker finds
that they are legal there; `handmade` has models for versions whose nodes look otherwise. ONNX Runtime's answer is the
expected one, so that only versions which it runs count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.checker
import onnx.defs

from bench.conformance.cases import Case, suite
from bench.conformance.handmade import HANDMADE
from bench.conformance.runs import PASSED, Run, native_twin, onnx_runtime, outcome, twin
from bench.table import markdown

OLDEST = 7
LONGEST = 6
MOST = 8
"""Models tried of one version: more of the same operator tell little more."""
RTOL, ATOL = 1e-3, 1e-5
"""The latter of the largest value."""
FLOATS = (np.float16, np.float32, np.float64)
RANDOM = frozenset({"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"})
"""No two runs are alike, so there is nothing to compare."""
RANDOM_CASES = frozenset(f"test_training_dropout{which}" for which in ("", "_default", "_default_mask", "_mask"))


@dataclass(frozen=True, slots=True, order=True)
class Version:
    domain: str
    op_type: str
    since: int

    @property
    def opset(self) -> int:
        """The opset that a model of it declares."""
        return self.since if self.domain else max(self.since, OLDEST)


def versions() -> list[Version]:
    """All that `ai.onnx` and `ai.onnx.ml` define from opset 7 on (`ai.onnx.ml`: its current one), deprecated ones left out."""
    known: dict[tuple[str, str], list[int]] = defaultdict(list)
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain in ("", "ai.onnx.ml") and not schema.deprecated and schema.name not in RANDOM:
            known[schema.domain, schema.name].append(schema.since_version)
    found = []
    for (domain, op_type), every in known.items():
        in_force = max((v for v in every if v <= OLDEST), default=None)  # the one that a model of opset 7 means
        kept = [v for v in every if v > OLDEST or v == in_force]
        found += [Version(domain, op_type, v) for v in (kept if not domain else [max(every)])]
    return sorted(found)


def by_operator(cases: Iterable[Case]) -> Mapping[tuple[str, str], Sequence[Case]]:
    """The suite's cases of one node; of operators that never stand alone there (those of sequences), the shortest models."""
    alone: dict[tuple[str, str], list[Case]] = defaultdict(list)
    among: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case in cases:
        nodes = case.model.graph.node
        for node in nodes:
            if not case.model.functions and len(nodes) <= LONGEST:
                among[node.domain, node.op_type].append(case)
        if len(nodes) == 1 and not case.model.functions:
            alone[nodes[0].domain, nodes[0].op_type].append(case)
    return among | alone


def models(version: Version, cases: Mapping[tuple[str, str], Sequence[Case]], most: int = MOST) -> list[Case]:
    """One-node models of this version with ONNX Runtime's answers; none where it doesn't run the version."""
    same = [case for case in cases.get((version.domain, version.op_type), ()) if case.name not in RANDOM_CASES]
    made = [_declared(case, version) for case in same]
    made[:0] = [recipe.case(version.opset) for recipe in HANDMADE if recipe.covers(version.op_type, version.opset)]
    answered = []
    for case in made:
        if len(answered) == most:
            break
        if case is not None and (found := _answered(case)) is not None:
            answered.append(found)
    return answered


def _declared(case: Case, version: Version) -> Case | None:
    """The case as a model of this version, where the checker finds it legal."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    for entry in model.opset_import:
        if entry.domain == version.domain:
            entry.version = version.opset
    model.ir_version = min(model.ir_version, 10)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError:
        return None
    return Case(case.kind, case.name, model, case.data, case.rtol, case.atol)


def _answered(case: Case) -> Case | None:
    """The case with ONNX Runtime's answers as those expected, or None where it gives none."""
    try:
        run = onnx_runtime(case.model)
        data = [(inputs, run(inputs)) for inputs, _ in case.data]
    except Exception:
        return None
    floats = [np.abs(a[np.isfinite(a)]).max(initial=1.0) for _, answers in data for a in answers if getattr(a, "dtype", None) in FLOATS]
    return Case(case.kind, case.name, case.model, data, max(case.rtol, RTOL), max(case.atol, ATOL * max(floats, default=1.0)))


def report() -> str:
    cases = by_operator(suite())
    counts = dict.fromkeys(("defined", "ONNX Runtime", "in torch", "numpy"), 0)
    misses = []
    for version in versions():
        counts["defined"] += 1
        if not (found := models(version, cases)):
            continue
        counts["ONNX Runtime"] += 1
        if _all_pass(found, native_twin):
            counts["in torch"] += 1
        elif _all_pass(found, twin):
            counts["numpy"] += 1
        else:
            misses.append(f"{version.op_type}-{version.since} ({next(r for c in found if (r := outcome(c, twin)) != PASSED)})")
    header = ("operator versions", "that ONNX Runtime runs", "twin agrees, in torch", "twin agrees, in numpy", "twin doesn't")
    row = (counts["defined"], counts["ONNX Runtime"], counts["in torch"], counts["numpy"], len(misses))
    text = "Operators by since-version, from opset 7 on: one-node models against ONNX Runtime\n\n" + markdown(header, [row])
    return text + (f"\n\n{', '.join(misses)}" if misses else "")


def _all_pass(cases: Sequence[Case], prepare: Callable[[onnx.ModelProto], Run]) -> bool:
    return all(outcome(case, prepare) == PASSED for case in cases)

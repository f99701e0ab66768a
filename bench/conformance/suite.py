"""The onnx backend test suite on the twin and on ONNX Runtime, side by side."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from bench.conformance.cases import KINDS, suite
from bench.conformance.runs import PASSED, native_twin, onnx_runtime, outcome, twin
from bench.table import markdown

COLUMNS = ("twin in torch", "twin with numpy", "ONNX Runtime")


@dataclass(slots=True)
class Tally:
    """Outcomes by column: how many passed of each kind of case, and the names of those that didn't by reason."""

    cases: Counter[str] = field(default_factory=Counter)
    passed: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, kind: str, name: str, outcomes: dict[str, str]) -> None:
        self.cases[kind] += 1
        for column, reason in outcomes.items():
            if reason == PASSED:
                self.passed[column, kind] += 1
            else:
                self.failed.setdefault((column, reason), []).append(name)


def report() -> str:
    """Cases passed by kind and column, and the failures by reason."""
    tally = run()
    kinds = [(kind, tally.cases[kind], *(tally.passed[column, kind] for column in COLUMNS)) for kind in KINDS]
    total = ("all", tally.cases.total(), *(sum(tally.passed[column, kind] for kind in KINDS) for column in COLUMNS))
    reasons = sorted({reason for _, reason in tally.failed})
    failures = [(reason, *(len(tally.failed.get((column, reason), ())) for column in COLUMNS)) for reason in reasons]
    names = [f"{reason}: {', '.join(sorted(found))}" for (column, reason), found in sorted(tally.failed.items()) if column == COLUMNS[1]]
    return "\n\n".join(
        (
            'Cases of the onnx package\'s backend test suite passed. "Twin in torch" computes no step in numpy; "with numpy" may. '
            "ONNX Runtime is handed types that numpy lacks as OrtValues; by plain arrays alone it takes fewer (version 1.32: 1,689).",
            markdown(("kind", "cases", *COLUMNS), [*kinds, total]),
            "Failures by reason",
            markdown(("reason", *COLUMNS), failures),
            f"By name, {COLUMNS[1]}",
            "\n".join(names),
        )
    )


def run() -> Tally:
    tally = Tally()
    for case in suite():
        alone = outcome(case, native_twin)
        together = PASSED if alone == PASSED else outcome(case, twin)
        tally.add(case.kind, case.name, dict(zip(COLUMNS, (alone, together, outcome(case, onnx_runtime)), strict=True)))
    return tally

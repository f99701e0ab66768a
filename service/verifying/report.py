"""What was checked of a bundle and what came out, as text and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

_WIDTH = 110


class State(StrEnum):
    GOOD = "good"
    NOTE = "note"
    """Something to know, or to take with care."""
    FAILED = "failed"
    SKIPPED = "not checked"


@dataclass(frozen=True, slots=True)
class Check:
    subject: str
    """What was checked, in a word or two."""
    state: State
    words: str
    figures: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Report:
    name: str
    version: int
    checks: Sequence[Check]

    @property
    def failed(self) -> bool:
        return any(check.state is State.FAILED for check in self.checks)

    def text(self) -> str:
        lines = [f"{self.name} version {self.version}"]
        for check in self.checks:
            mark = "" if check.state is State.GOOD else f"{check.state.upper()}: "
            first = f"  {check.subject:<14}"
            lines.append(
                textwrap.fill(mark + check.words, _WIDTH, initial_indent=first, subsequent_indent=" " * len(first), break_long_words=False)
            )
        failed = [check.subject for check in self.checks if check.state is State.FAILED]
        lines.append(f"failed: {', '.join(failed)}" if failed else "nothing failed")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        checks = [{"subject": c.subject, "state": str(c.state), "words": c.words, "figures": dict(c.figures)} for c in self.checks]
        return {"name": self.name, "version": self.version, "failed": self.failed, "checks": checks}

"""README's `whyserve add` says what is pasted there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from exporters import add
from support import ROOT

README = (ROOT / "README.md").read_text("utf-8")
COMMAND, PASTED = re.findall(r"```sh\n\.venv/bin/whyserve (add [^\n]*)\n```\n```text\n(.*?)```", README, re.DOTALL)[0]


def test_the_report_is_the_pasted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)
    got = " ".join(add(*shlex.split(COMMAND)[1:]).split())
    for point in re.split(r"\n(?=\S|  - |  \S)", PASTED.strip()):
        beginning, _, _ = " ".join(point.split()).partition(", ..")  # of a list of methods, those named
        beginning = re.sub(r"parity error \S+, ", "", beginning)
        assert beginning in re.sub(r"parity error \S+, ", "", got), point

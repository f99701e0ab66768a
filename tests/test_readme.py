"""README's own commands, run as a reader would run them, and the answers pasted there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, Server

README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```(?:\n```json\n(.*?)```)?", README, re.DOTALL)
CURLS = [(commands, answer) for commands, answer in BLOCKS if commands.startswith("curl ")]
CHANGING = {"id", "seconds"}


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize(("commands", "answer"), CURLS, ids=range(len(CURLS)))
def test_the_curl_lines_answer_what_the_readme_says(commands: str, answer: str, server: Server, tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to(ROOT / "models")
    script = commands.replace("http://127.0.0.1:8080", server.url)
    ran = subprocess.run(["bash", "-ec", script.replace("curl ", "curl -sS ")], cwd=tmp_path, capture_output=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr
    for written in re.findall(r" -o (\S+)", commands):
        content = (tmp_path / written).read_bytes()
        assert content.startswith(b"\x89PNG" if written.endswith(".png") else b"<!doctype html>"), content[:200]
    if answer:
        assert_like(json.loads(ran.stdout.splitlines()[-1]), json.loads(answer))


def assert_like(got: Any, pasted: Any, where: str = "answer") -> None:
    """What was pasted is in the answer; numbers within what differs between machines."""
    if isinstance(pasted, dict):
        for key in pasted.keys() - CHANGING:
            assert key in got, f"{where}.{key} is gone"
            assert_like(got[key], pasted[key], f"{where}.{key}")
    elif isinstance(pasted, list):
        assert len(got) >= len(pasted), where
        for k, (one, other) in enumerate(zip(got, pasted, strict=False)):
            assert_like(one, other, f"{where}[{k}]")
    elif isinstance(pasted, float):
        assert got == pytest.approx(pasted, rel=0.05, abs=0.01), where
    else:
        assert got == pasted, where


def test_there_are_curl_lines_to_run() -> None:
    assert len(CURLS) >= 5


@pytest.mark.parametrize("command", ["make serve", "make test", "make train", "make bench"])
def test_the_commands_named_are_targets_of_the_makefile(command: str) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert command in README
    assert re.search(rf"^{command.removeprefix('make ')}:", makefile, re.MULTILINE)

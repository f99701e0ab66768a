"""Who may import whom: data flows one way, and the server never loads torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

HEAVY = {"torch", "captum", "onnx", "matplotlib", "sklearn", "lightning"}


def imported(file: Path) -> Iterator[str]:
    """Dotted names of everything that a module imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


def test_service_never_imports_training():
    wrong = [f"{file}: {name}" for file in modules("service") for name in imported(file) if name.partition(".")[0] == "training"]
    assert wrong == []


def test_training_imports_the_bundles_contract_and_nothing_else_of_service():
    wrong = [
        f"{file}: {name}"
        for file in modules("training")
        for name in imported(file)
        if name.partition(".")[0] == "service" and not name.startswith("service.manifest")
    ]
    assert wrong == []


def test_torch_captum_and_onnx_are_imported_by_the_explainers_modules_only():
    """`whyserve add` reads graphs too, offline in a process of its own."""
    allowed = {ROOT / "service" / "explain": HEAVY, ROOT / "service" / "adding": {"onnx"}}
    wrong = [
        f"{file}: {name}"
        for file in modules("service")
        for name in imported(file)
        if name.partition(".")[0] in HEAVY - next((free for folder, free in allowed.items() if folder in file.parents), set())
    ]
    assert wrong == []


@pytest.mark.parametrize("module", ["service.app", "service.server", "service.client", "service.cli", "service.explain.pool"])
def test_the_server_loads_no_torch(module: str):
    """In a fresh interpreter; httpx, which the client's command needs, would be a third of the start-up."""
    forbidden = {*HEAVY, "httpx"}
    code = f"import {module}, sys; print(*(sorted({forbidden!r} & sys.modules.keys())))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == ""


def test_a_served_prediction_loads_no_torch():
    code = """
import asyncio, sys
from service.app import create_app
from service.settings import Settings
async def main():
    ready = asyncio.Event()
    app = create_app(Settings(explainers=0), on_ready=lambda _: ready.set())
    async with app.router.lifespan_context(app):
        await ready.wait()
asyncio.run(main())
print(*sorted({'torch', 'captum', 'onnx', 'matplotlib'} & sys.modules.keys()))
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == ""

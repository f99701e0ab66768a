"""The command `whyserve verify`: its options, and the process it runs in."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import orjson

_DESCRIPTION = """Check a bundle and say in words what was found: its files and their hashes, the graph, the golden requests,
whether rows are independent, the twin that explanations are made with, the methods it supports, how far explanations can be
trusted, and whether they depend on what the model has learnt. Needs no server. Exit status 1 where something fails."""


def add(commands: Any) -> None:
    """Adds the command."""
    command = commands.add_parser(
        "verify", help="check a bundle and how far its explanations can be trusted", description=_DESCRIPTION,
        epilog="example: whyserve verify mnist-cnn",
    )  # fmt: skip
    command.add_argument("model", help="name, or name/version")
    command.add_argument("--models", type=Path, help="model repository (default: WHYSERVE_MODELS or models)")
    command.add_argument("--version", type=int, help="default: the highest one")
    command.add_argument("--n", type=_count, default=3, metavar="N", help="explain at most so many of the bundle's instances (default: 3)")
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    command.set_defaults(run=_run)


def _count(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"expected a number of instances from 1 to 1000, got {text!r}")
    return value


def _run(arguments: argparse.Namespace) -> int:
    os.environ.setdefault("MPLCONFIGDIR", tempfile.mkdtemp(prefix="whyserve-mpl-"))  # Captum imports matplotlib
    from service.verifying.verify import verified  # brings ONNX Runtime, and torch where it is installed

    name, _, version = arguments.model.partition("/")
    models = arguments.models or Path(os.environ.get("WHYSERVE_MODELS") or "models")
    report = verified(models, name, arguments.version if arguments.version is not None else version or None, arguments.n)
    print(orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2).decode() if arguments.json else report.text())
    return int(report.failed)

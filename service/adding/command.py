"""The command `whyserve add`: its options, and the order of what it does."""

from __future__ import annotations

import argparse
import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.adding.refused import NotAdded

if TYPE_CHECKING:
    from service.adding.wishes import Wishes

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DESCRIPTION = """Make a bundle of an ONNX file of any exporter: checked, tried in ONNX Runtime, its twin compared with it; and
say what can be explained of it, what can't, and why. What the file doesn't tell is said by options."""


def add(commands: Any) -> None:
    """Adds the command."""
    command = commands.add_parser(
        "add",
        help="make a bundle of an ONNX file",
        description=_DESCRIPTION,
        epilog="example: whyserve add resnet18.onnx --name photos --labels imagenet.txt --mean .485 .456 .406 --std .229 .224 .225",
    )
    command.add_argument("file", type=Path, metavar="FILE.onnx")
    command.add_argument("--name", required=True, help="the model's name in requests")
    command.add_argument("--version", type=int, help="default: the next one")
    command.add_argument("--models", type=Path, help="model repository (default: WHYSERVE_MODELS or models)")
    command.add_argument("--title", default="", help="a line about the model")
    command.add_argument("--dry-run", action="store_true", help="check and say, write nothing")
    _add_inputs(command.add_argument_group("inputs"))
    _add_outputs(command.add_argument_group("outputs and explanations"))
    command.set_defaults(run=_run)


def _add_inputs(group: Any) -> None:
    group.add_argument("--input", choices=("image", "text", "audio", "table", "tensor"), help="what the first input is (default: detected)")
    group.add_argument("--size", help="image: HEIGHTxWIDTH, or one number, where the file leaves it open")
    group.add_argument("--layout", choices=("NCHW", "NHWC"), help="image: where the channels are (default: detected)")
    group.add_argument("--channels", type=int, choices=(1, 3), help="image: grey or colour, where the file leaves it open")
    group.add_argument("--fit", choices=("stretch", "contain", "crop"), default="stretch", help="image: how others are brought to size")
    for option, what in (("--mean", "subtracted"), ("--std", "divided by")):
        group.add_argument(option, type=float, nargs="+", default=(), metavar="V", help=f"image: {what}, one number or one a channel")
    group.add_argument("--scale", type=float, help="image: pixels 0 to 255 are divided by it first (default: 255 where mean, std <= 1)")
    group.add_argument("--tokenizer", type=Path, metavar="FILE", help="text: a Hugging Face tokenizer.json")
    group.add_argument("--max-length", type=int, help="text: most tokens (default: the tokenizer's, or 512)")
    group.add_argument("--columns", metavar="FILE|A,B", help="table: the columns' names")
    group.add_argument("--sample-rate", type=int, metavar="HZ", help="audio")
    group.add_argument("--max-seconds", type=float, help="audio: longest sound, where the file leaves it open (default: 30)")
    group.add_argument(
        "--allow-missing", action=argparse.BooleanOptionalAction, help="NaN is a value (default: where trees were made for it)"
    )


def _add_outputs(group: Any) -> None:
    group.add_argument("--task", choices=("classification", "regression", "segmentation", "other"))
    group.add_argument("--output", metavar="NAME", help="the output that is predicted and explained (default: detected)")
    group.add_argument("--labels", metavar="FILE|A,B", help="the classes' names: a line each, JSON, or separated by commas")
    group.add_argument("--activation", choices=("softmax", "sigmoid", "none"), help="what makes probabilities of the output")
    group.add_argument(
        "--attribute-at",
        action="append",
        default=[],
        metavar="INPUT=TENSOR",
        help="where a discrete input (ids, uint8) is attributed: the embedding's output, the float after a cast; INPUT=none: nowhere",
    )
    group.add_argument(
        "--reference", type=Path, metavar="FILE.npz", help="typical instances, arrays by input name, for methods that need some"
    )


def _run(arguments: argparse.Namespace) -> int:
    missing = [name for name in ("onnx", "torch", "captum") if find_spec(name) is None]
    if "onnx" in missing:
        raise NotAdded(
            "reading a graph needs the package onnx: install the extra 'explain' (pip install 'whyserve[explain]'). A bare "
            "model.onnx in NAME/VERSION/ of the repository is served without it, tensors in and out"
        )
    # onnx and torch are imported from here on: the other commands shall not wait for them.
    from service.adding.add import added
    from service.adding.memory import bounded

    wishes = _wishes(arguments)
    with bounded(wishes.file):
        print(added(wishes, with_twin=not missing))
    return 0


def _wishes(arguments: argparse.Namespace) -> Wishes:
    from service.adding.wishes import Wishes, pixel_arithmetic, read_names

    if not _NAME.fullmatch(arguments.name):
        raise NotAdded(f"--name {arguments.name!r}: expected letters, digits, '.', '_' and '-', a letter or digit first, at most 100")
    if arguments.version is not None and arguments.version < 1:
        raise NotAdded(f"--version {arguments.version}: expected 1 or more")
    for option in ("max_length", "sample_rate", "max_seconds"):
        if getattr(arguments, option) is not None and not getattr(arguments, option) > 0:
            raise NotAdded(f"--{option.replace('_', '-')}: expected a positive number, got {getattr(arguments, option)}")
    return Wishes(
        file=arguments.file,
        name=arguments.name,
        models=arguments.models or Path(os.environ.get("WHYSERVE_MODELS") or "models"),
        version=arguments.version,
        title=arguments.title,
        codec=arguments.input,
        task=arguments.task,
        labels=read_names(arguments.labels, "--labels") if arguments.labels else (),
        output=arguments.output,
        activation=arguments.activation,
        attribute_at=tuple(_pair(text) for text in arguments.attribute_at),
        pixels=pixel_arithmetic(arguments.scale, tuple(arguments.mean), tuple(arguments.std)),
        size=_size(arguments.size) if arguments.size else None,
        layout=arguments.layout,
        channels=arguments.channels,
        fit=arguments.fit,
        tokenizer=arguments.tokenizer,
        max_length=arguments.max_length,
        columns=read_names(arguments.columns, "--columns") if arguments.columns else (),
        sample_rate=arguments.sample_rate,
        max_seconds=arguments.max_seconds,
        reference=arguments.reference,
        allow_missing=arguments.allow_missing,
        dry_run=arguments.dry_run,
    )


def _pair(text: str) -> tuple[str, str]:
    name, equals, tensor = text.partition("=")
    if not equals or not name or not tensor:
        raise NotAdded(f"--attribute-at {text!r}: expected INPUT=TENSOR, e.g. input_ids=embedding, or INPUT=none")
    return name, tensor


def _size(text: str) -> tuple[int, int]:
    sizes = text.lower().split("x")
    if len(sizes) not in (1, 2) or not all(size.isascii() and size.isdigit() and 0 < int(size) <= 10000 for size in sizes):
        raise NotAdded(f"--size {text!r}: expected HEIGHTxWIDTH or one number, e.g. 224")
    return int(sizes[0]), int(sizes[-1])

"""The command `whyserve train`: its options come from the recipe's Config, so that a recipe is its own documentation."""

from __future__ import annotations

import argparse
import importlib
import sys
import typing
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from training.recipes import RECIPES, Recipe
from training.session import Session, devices_by_default

EXAMPLE = "example: whyserve train mnist-cnn --device cpu --seed 1"


def command(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Adds `train` to the `whyserve` command (entry point `whyserve.commands`). Doesn't import torch."""
    parser = subparsers.add_parser(
        "train",
        help="train a network on real data and write its bundle",
        description="Trains one of the networks and writes its bundle.\n\n" + listing(),
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _arguments(parser)
    parser.set_defaults(run=run)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m training NAME [options]`, which torchrun can start."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser("python -m training", usage="python -m training NAME [options] | --list | --all")
    _arguments(parser)
    return run(parser.parse_args(given))


def run(arguments: argparse.Namespace) -> int:
    """Runs what `command` parsed; returns the exit status."""
    if arguments.list:
        print(listing())
        return 0
    if arguments.all:
        return max(_train(recipe, arguments.recipe) for recipe in RECIPES.values())
    if not arguments.recipe:
        print(f"which network? There are:\n{listing()}\n{EXAMPLE}", file=sys.stderr)
        return 2
    name, *options = arguments.recipe
    if name not in RECIPES:
        print(f"no recipe {name!r}; there are:\n{listing()}", file=sys.stderr)
        return 2
    return _train(RECIPES[name], options)


def listing() -> str:
    """The recipes, a line each."""
    return "\n".join(f"  {recipe.name:<16} {recipe.summary} (about {recipe.minutes} min on 2 cores)" for recipe in RECIPES.values())


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--list", action="store_true", help="list the recipes and how long each takes")
    parser.add_argument("--all", action="store_true", help="train every recipe with its defaults, one after the other")
    parser.add_argument("recipe", nargs=argparse.REMAINDER, metavar="NAME [options]", help="`train NAME --help` lists its options")


def _train(recipe: Recipe, options: Sequence[str]) -> int:
    try:
        module = importlib.import_module(recipe.module)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] in ("training", "service"):
            raise
        print(f"training needs the package {error.name!r}: pip install 'whyserve[cpu,train]'", file=sys.stderr)
        return 1
    from training.downloads import DatasetError
    from training.export import ExportError
    from training.fit import FitError

    config, session = parse(recipe, module.Config, options)
    try:
        for folder in module.train(config, session):
            print(f"bundle: {folder}")
    except (DatasetError, ExportError, FitError) as error:
        print(f"whyserve train {recipe.name}: {error}", file=sys.stderr)
        return 1
    return 0


def parse(recipe: Recipe, config_type: type[Any], options: Sequence[str]) -> tuple[Any, Session]:
    """A recipe's Config and the Session from its options. Ends the program, as argparse does, where they are wrong."""
    parser = argparse.ArgumentParser(
        f"whyserve train {recipe.name}", description=recipe.summary, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    shared = parser.add_argument_group("run")
    shared.add_argument("--seed", type=_natural, default=0, help="of weights, order, augmentation and dropout")
    shared.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to train")
    shared.add_argument("--devices", type=_positive, default=devices_by_default(), help="how many of them")
    shared.add_argument("--resume", action="store_true", help="go on from the last epoch of an interrupted run with the same options")
    shared.add_argument("--out", type=Path, default=Path("models"), help="model repository to write the bundle to")
    shared.add_argument("--runs", type=Path, default=Path("runs"), help="folder of checkpoints and learning curves")
    shared.add_argument("--data", type=Path, default=None, help="folder of the datasets; WHYSERVE_DATA or data/ by default")
    own = parser.add_argument_group("recipe")
    hints = typing.get_type_hints(config_type)
    for option in fields(config_type):
        _add(own, option, _kind(hints[option.name]))
    values = vars(parser.parse_args(options))
    config = config_type(**{option.name: values.pop(option.name) for option in fields(config_type)})
    return config, Session(**values)


@dataclass(frozen=True)
class Kind:
    """An annotation as argparse needs it."""

    type: Any
    choices: tuple[Any, ...] | None = None


def _kind(hint: Any) -> Kind:
    if get_origin(hint) is Literal:
        return Kind(type(get_args(hint)[0]), get_args(hint))
    if get_origin(hint) in (Union, UnionType):
        (inner,) = (argument for argument in get_args(hint) if argument is not NoneType)
        return _kind(inner)
    if hint in (int, float, str, bool):
        return Kind(hint)
    raise TypeError(f"a recipe's option must be int, float, str, bool, a Literal of them or one of these or None, not {hint}")


def _add(group: argparse._ArgumentGroup, option: Field[Any], kind: Kind) -> None:
    if option.default is MISSING:
        raise TypeError(f"the option {option.name!r} of a recipe has no default")
    settings: dict[str, Any] = {"default": option.default, "help": option.metadata.get("help", " ")}
    if kind.type is bool:
        settings["action"] = argparse.BooleanOptionalAction
    else:
        settings |= {"type": kind.type, "choices": kind.choices, "metavar": None if kind.choices else kind.type.__name__.upper()}
    group.add_argument("--" + option.name.replace("_", "-"), **settings)


def _natural(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**31:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {2**31 - 1}")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value

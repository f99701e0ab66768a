"""The train command: what it lists, what it refuses, and that a recipe's Config is its options."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from training import cli
from training.cli import command, main, parse
from training.recipes import RECIPES, Recipe
from training.session import Session


@dataclass(frozen=True)
class Config:
    epochs: int = field(default=3, metadata={"help": "passes"})
    rate: float = 0.5
    schedule: Literal["flat", "cosine"] = "flat"
    augment: bool = True
    patience: int | None = None


RECIPE = RECIPES["wine-perceptron"]


def whyserve(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("whyserve")
    command(parser.add_subparsers(required=True))
    return parser.parse_args(arguments)


def test_the_command_does_not_import_torch():
    probe = "import sys, training.cli; sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0


def test_list_names_every_recipe(capsys: pytest.CaptureFixture[str]):
    arguments = whyserve(["train", "--list"])
    assert arguments.run(arguments) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in RECIPES)


def test_all_trains_each_with_its_defaults_and_reports_the_worst_status(monkeypatch: pytest.MonkeyPatch):
    trained = []

    def train(recipe: Recipe, options: list[str]) -> int:
        trained.append((recipe.name, options))
        return int(recipe.name == "wine-mlp")

    monkeypatch.setattr(cli, "_train", train)
    arguments = whyserve(["train", "--all"])
    assert arguments.run(arguments) == 1
    assert trained == [(name, []) for name in RECIPES]


@pytest.mark.parametrize("given", [["train"], ["train", "mnist"]])
def test_no_or_an_unknown_name_lists_what_there_is(given: list[str], capsys: pytest.CaptureFixture[str]):
    arguments = whyserve(given)
    assert arguments.run(arguments) == 2
    assert "mnist-cnn" in capsys.readouterr().err


def test_options_after_the_name_belong_to_the_recipe():
    arguments = whyserve(["train", "wine-perceptron", "--epochs", "1", "--help"])
    assert arguments.recipe == ["wine-perceptron", "--epochs", "1", "--help"]


def test_defaults_are_the_configs():
    assert parse(RECIPE, Config, []) == (Config(), Session())


def test_every_kind_of_option_is_read():
    options = ["--epochs", "7", "--rate", "1e-3", "--schedule", "cosine", "--no-augment", "--patience", "4"]
    shared = ["--seed", "5", "--device", "cpu", "--devices", "2", "--resume", "--out", "m", "--runs", "r", "--data", "d"]
    config, session = parse(RECIPE, Config, options + shared)
    assert config == Config(7, 1e-3, "cosine", False, 4)
    assert session == Session(5, "cpu", 2, True, Path("m"), Path("r"), Path("d"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "many"], "invalid int value"),
        (["--schedule", "steep"], "invalid choice"),
        (["--seed", "-1"], "not between 0 and"),
        (["--devices", "0"], "not at least 1"),
        (["--epoch-count", "3"], "unrecognized arguments"),
    ],
)
def test_a_wrong_option_ends_with_the_reason(options: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        parse(RECIPE, Config, options)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_torchruns_processes_are_the_default_devices(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert parse(RECIPE, Config, [])[1].devices == 4


def test_missing_data_is_a_message_not_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "tabular").mkdir()
    (tmp_path / "tabular" / "winequality-white.csv").write_text("a,quality\n1,5\n")
    assert main(["wine-perceptron", "--data", str(tmp_path), "--runs", str(tmp_path), "--out", str(tmp_path)]) == 1
    assert "winequality-white.csv isn't the table" in capsys.readouterr().err


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_parsed(name: str):
    config, _ = parse(RECIPES[name], importlib.import_module(RECIPES[name].module).Config, [])
    assert config.epochs > 0

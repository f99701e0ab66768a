"""What the user of `whyserve add` says about a model that its file doesn't tell: checked, and files read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from service.adding.refused import NotAdded
from service.adding.rewrite import PixelArithmetic

Codec = Literal["image", "text", "audio", "table", "tensor"]
Activation = Literal["softmax", "sigmoid", "none"]
Task = Literal["classification", "regression", "segmentation", "generation", "other"]
NOWHERE = "none"
"""`--attribute-at INPUT=none`: no attributions for that input."""


@dataclass(frozen=True, slots=True)
class Wishes:
    file: Path
    name: str
    models: Path
    version: int | None = None
    title: str = ""
    codec: Codec | None = None
    task: Task | None = None
    labels: tuple[str, ...] = ()
    output: str | None = None
    activation: Activation | None = None
    attribute_at: tuple[tuple[str, str], ...] = ()
    pixels: PixelArithmetic | None = None
    size: tuple[int, int] | None = None
    """Height, width."""
    layout: Literal["NCHW", "NHWC"] | None = None
    channels: Literal[1, 3] | None = None
    fit: Literal["stretch", "contain", "crop"] = "stretch"
    tokenizer: Path | None = None
    max_length: int | None = None
    columns: tuple[str, ...] = ()
    sample_rate: int | None = None
    max_seconds: float | None = None
    reference: Path | None = None
    allow_missing: bool | None = None
    dry_run: bool = False

    @property
    def said_codec(self) -> Codec | None:
        """The kind of input named, or implied by an option that only one kind has."""
        if self.codec is not None:
            return self.codec
        implied: tuple[tuple[Codec, object], ...] = (
            ("image", self.pixels or self.size or self.layout or self.channels),
            ("text", self.tokenizer),
            ("audio", self.sample_rate),
            ("table", self.columns),
        )
        return next((codec for codec, given in implied if given), None)


def read_names(value: str, what: str) -> tuple[str, ...]:
    """Names from a file (a line each; or a JSON list, or a JSON object by index) or, where no such file exists, from the
    text itself, separated by commas. Raises NotAdded."""
    names = tuple(part.strip() for part in value.split(",")) if "," in value and not Path(value).is_file() else _read_lines(value, what)
    if not names or not all(names):
        raise NotAdded(f"{what} {value!r} holds no names, or an empty one")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise NotAdded(f"{what} {value!r}: {twice!r} is there twice; names must differ, requests use them")
    return names


def _read_lines(value: str, what: str) -> tuple[str, ...]:
    path = Path(value)
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise NotAdded(f"{what} {value!r}: {error.strerror}; expected a file with a name a line, or names separated by commas") from None
    except UnicodeDecodeError:
        raise NotAdded(f"{what} {value!r} is no UTF-8 text") from None
    return _json_names(text, what) if text.lstrip()[:1] in ("[", "{") else tuple(line.strip() for line in text.strip().splitlines())


def _json_names(text: str, what: str) -> tuple[str, ...]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise NotAdded(f"{what}: no JSON: {error}") from None
    if isinstance(found, dict):
        try:
            by_index = {int(key): value for key, value in found.items()}
        except ValueError:
            raise NotAdded(f"{what}: expected a list of names, or an object of names by index") from None
        if sorted(by_index) != list(range(len(by_index))):
            raise NotAdded(f"{what}: the indices aren't 0 to {len(by_index) - 1}")
        found = [by_index[index] for index in range(len(by_index))]
    if not all(isinstance(name, str | int | float) for name in found):
        raise NotAdded(f"{what}: expected a list of names")
    return tuple(str(name) for name in found)


def pixel_arithmetic(scale: float | None, mean: tuple[float, ...], std: tuple[float, ...]) -> PixelArithmetic | None:
    """From the options. Without a scale, means and deviations of at most 1 are of values 0 to 1, others of 0 to 255."""
    if scale is None and not mean and not std:
        return None
    if scale is not None and not scale > 0:
        raise NotAdded(f"--scale: expected a positive number, got {scale:g}")
    if any(not value > 0 for value in std):
        raise NotAdded(f"--std: expected positive numbers, got {list(std)}")
    for option, values in (("--mean", mean), ("--std", std)):
        if len(values) not in (0, 1, 3):
            raise NotAdded(f"{option}: expected one number, or three (red, green, blue), got {len(values)}")
    guessed = 255.0 if all(abs(value) <= 1 for value in (*mean, *std)) else 1.0
    return PixelArithmetic(guessed if scale is None else scale, mean, std)

"""The bundle's contract: what `model.yaml` and `golden.json` may say.

The one module that `training` shares with `service`: training writes these models, the service reads them. Field names
are fixed once released: a server refuses a manifest with a field that it does not know (`extra="forbid"`), so that a
policy is never silently ignored.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "model.yaml"
GOLDEN_FILE = "golden.json"

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Dtype = Literal["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "string"]
Shape = tuple[int | None, ...]
"""Sizes without the batch axis; None is a size that varies from request to request."""


class Contract(BaseModel):
    """Base of every model here: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# ---------------------------------------------------------------------------------------------------------------- inputs


class ImagePolicy(Contract):
    """How an encoded picture becomes the input tensor. Arithmetic on pixel values belongs into the graph, not here."""

    height: int = Field(gt=0)
    width: int = Field(gt=0)
    channels: Literal[1, 3]
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    fit: Literal["stretch", "contain", "crop"] = "stretch"
    filter: Literal["nearest", "box", "bilinear", "bicubic", "lanczos"] = "bilinear"
    exif_orientation: bool = True
    """Turn the picture as its EXIF tag says, before anything else."""
    background: tuple[int, int, int] = (0, 0, 0)
    """RGB, 0 to 255: what shows through transparent pixels and fills the margins of `fit: contain`."""
    sixteen_bit: Literal["scale", "refuse"] = "scale"
    cmyk: Literal["convert", "refuse"] = "convert"
    animation: Literal["first", "refuse"] = "first"
    polarity: Literal["keep", "invert", "auto"] = "keep"
    """`invert` turns dark-on-light into light-on-dark; `auto` does so where the border is brighter than mid-grey."""


class TextPolicy(Contract):
    """How a text becomes token ids. `tokenizer` names the Hugging Face `tokenizers` file of the bundle, which also holds
    the normalisation, so that token offsets refer to the text as it was sent."""

    tokenizer: str = "tokenizer.json"
    normalization: Literal["tokenizer"] = "tokenizer"
    max_length: int = Field(gt=0)
    """In tokens."""
    beyond: Literal["truncate", "refuse"] = "truncate"
    pad_id: int = 0
    lengths: str | None = None
    """The graph input (int64, one number a row) that takes the number of tokens before padding; None: the model takes
    unpadded rows only, and rows are batched by equal length."""


class Column(Contract):
    """One column of a table, with its training data's facts for rendering and for baselines."""

    name: str
    unit: str = ""
    mean: float | None = None
    std: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()
    """Where the column is a category: its values; the tensor holds their index."""
    group: str = ""
    """Columns of one group stand for one thing, as a category's one-hot columns do: what is explained column by column takes
    them as one."""


class TablePolicy(Contract):
    columns: tuple[Column, ...] = Field(min_length=1)


class AudioPolicy(Contract):
    """How an encoded sound becomes samples in [-1, 1]."""

    sample_rate: int = Field(gt=0)
    """Hz; another rate is resampled."""
    channels: Literal["mix", "refuse"] = "mix"
    max_seconds: float = Field(gt=0)
    """A graph of fixed length may take less than this."""
    beyond: Literal["truncate", "refuse"] = "truncate"
    pad_to_max: bool = False
    """Fill up with silence behind the sound; where the graph's length is fixed that is done in any case."""


class Input(Contract):
    """One input of the graph. `name` is the graph's own name of the tensor; the first input takes a raw body."""

    name: str = Field(min_length=1)
    codec: Literal["image", "text", "table", "audio", "tensor"]
    dtype: Dtype
    shape: Shape
    range: tuple[float, float] | None = None
    """What the values span, ends included, as the graph expects them (a picture: [0, 255])."""
    allow_missing: bool = False
    """Whether NaN is a value (a missing one); otherwise it is an error."""
    labels: tuple[str, ...] = ()
    """Of an integer input that is a class: its names, so that a label may be sent instead of the index."""
    sample: Literal["normal", "uniform", "label"] | None = None
    """How `:generate` draws this input where the request leaves it out: standard normal, uniform in `range`, any label."""
    image: ImagePolicy | None = None
    text: TextPolicy | None = None
    table: TablePolicy | None = None
    audio: AudioPolicy | None = None

    @model_validator(mode="after")
    def _policy_matches_codec(self) -> Self:
        for codec in ("image", "text", "table", "audio"):
            if (getattr(self, codec) is not None) != (self.codec == codec):
                raise ValueError(f"input {self.name!r}: codec {self.codec!r} needs the policy {self.codec!r} and no other, got {codec!r}")
        if self.audio and (sum(size != 1 for size in self.shape) != 1 or not self.dtype.startswith("float")):
            raise ValueError(f"input {self.name!r}: a sound is floats of shape (T,), (1, T) or (T, 1), got {self.dtype} {self.shape}")
        if self.sample == "uniform" and self.range is None:
            raise ValueError(f"input {self.name!r}: sample 'uniform' needs a range")
        if self.sample == "label" and not self.labels:
            raise ValueError(f"input {self.name!r}: sample 'label' needs labels")
        return self


# --------------------------------------------------------------------------------------------------------------- outputs


class Output(Contract):
    """One output of the graph; the first is the one that is explained unless a request names another.

    `kind`: `classes` (one score a label), `value` (regression: one number or several), `mask` (a class a pixel), `image`
    and `audio` (generated), `tensor` (anything else: returned by name).
    """

    name: str = Field(min_length=1)
    kind: Literal["classes", "value", "mask", "image", "audio", "tensor"]
    dtype: Dtype
    shape: Shape
    labels: tuple[str, ...] = ()
    activation: Literal["softmax", "sigmoid", "none"] = "none"
    """What turns this output into probabilities. A single sigmoid score with two labels is the score of label 1."""
    activated: bool = False
    """True where the graph ends in that activation: the output holds probabilities already."""
    range: tuple[float, float] | None = None
    layout: Literal["NCHW", "NHWC"] | None = None
    """Of `kind: image` and `mask`."""
    sample_rate: int | None = None
    """Of `kind: audio`, in Hz."""

    @model_validator(mode="after")
    def _labels_fit(self) -> Self:
        scores = self.shape[-1] if self.kind == "classes" and self.shape else None
        single = self.activation == "sigmoid" and scores in (1, None)
        if self.kind == "classes" and self.labels and not single and scores not in (None, len(self.labels)):
            raise ValueError(f"output {self.name!r}: {len(self.labels)} labels for {scores} scores")
        return self


class Batching(Contract):
    axis: int = 0
    max: int | None = Field(default=None, gt=0)
    """Rows of a run at most; none: measured at load, where a row is cheapest."""
    max_ms: float = Field(default=100, gt=0, allow_inf_nan=False)
    """Milliseconds that a run of several rows may take, by what was measured at load; `max` is lowered to keep to it."""
    rows_independent: bool = True
    """Whether a row's answer is the same alone and among others; where not, requests are never batched together."""


class Baseline(Contract):
    """Where an attribution starts from, for one input: what the model is compared with.

    `constant` fills with `value`; `token` repeats the token id `value` in place of every token; `mean` is the mean of the
    columns' training data or of the reference set; `missing` is NaN, for methods that need no gradient; the others as named.
    Taken at `attribute_at` where the input has one, except `token`, which is an input.
    """

    kind: Literal["zero", "constant", "token", "mean", "blur", "noise", "uniform", "missing"]
    value: float | None = None


class Explain(Contract):
    """What `:explain` does by default."""

    output: Literal["logit", "probability", "value"]
    method: str = "integrated_gradients"
    attribute_at: dict[str, str] = {}
    """Discrete input name to the float tensor of the graph (same batch axis) where its attribution is taken."""
    baseline: dict[str, Baseline] = {}
    """Per input; an input without one starts from zero."""
    reference: str | None = None
    """A file of the bundle (`.npz`, arrays by input name) with typical instances, for methods that need some."""


# ------------------------------------------------------------------------------------------------- where it all came from


class Metric(Contract):
    """A figure that the recipe measured."""

    name: str
    value: float
    split: str
    n: int = Field(gt=0)
    """How many examples it was measured on."""
    seed: int | None = None
    unit: str = ""
    note: str = ""


class Data(Contract):
    """A dataset the model was trained on."""

    name: str
    source: str
    licence: str
    non_commercial: bool = False
    sha256: dict[str, Sha256] = {}
    """By file name, of the file or (where the public file was repacked) of its decoded content."""


class Provenance(Contract):
    recipe: str = ""
    """The command that made this bundle."""
    seed: int | None = None
    versions: dict[str, str] = {}
    """Of the packages that made it."""
    parameters: int | None = None
    multiply_adds: int | None = None
    """For one row, convolutions and matrix products only."""
    hyperparameters: dict[str, str | int | float | bool] = {}


class Manifest(Contract):
    """`model.yaml`, whole."""

    format: Literal[1] = 1
    name: Name
    version: int = Field(gt=0)
    title: str = ""
    description: str = ""
    task: Literal["classification", "regression", "segmentation", "generation", "other"]
    licence: str = ""
    inputs: tuple[Input, ...] = Field(min_length=1)
    outputs: tuple[Output, ...] = Field(min_length=1)
    batching: Batching = Batching()
    explain: Explain | None = None
    metrics: tuple[Metric, ...] = ()
    data: tuple[Data, ...] = ()
    provenance: Provenance = Provenance()
    files: dict[str, Sha256]
    """sha256 of every file of the bundle that the service reads; `model.onnx` is always among them."""

    @model_validator(mode="after")
    def _names_are_consistent(self) -> Self:
        for what, names in (("input", [i.name for i in self.inputs]), ("output", [o.name for o in self.outputs])):
            if len(set(names)) != len(names):
                raise ValueError(f"two {what}s with one name: {names}")
        if MODEL_FILE not in self.files:
            raise ValueError(f"files: the hash of {MODEL_FILE} is missing")
        needed = [i.text.tokenizer for i in self.inputs if i.text] + (
            [self.explain.reference] if self.explain and self.explain.reference else []
        )
        for file in needed:
            if file not in self.files:
                raise ValueError(f"files: the hash of {file} is missing")
        for file in self.files:
            if Path(file).name != file:
                raise ValueError(f"files: {file!r} is not a plain file name")
        known = {i.name for i in self.inputs}
        for field in ("attribute_at", "baseline"):
            unknown = set(getattr(self.explain, field)) - known if self.explain else set()
            if unknown:
                raise ValueError(f"explain.{field}: no input named {sorted(unknown)}, there are {sorted(known)}")
        return self

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The manifest of a bundle folder. Raises OSError, yaml.YAMLError or pydantic.ValidationError."""
        return cls.model_validate(yaml.safe_load((folder / MANIFEST_FILE).read_text("utf-8")))

    def write(self, folder: Path) -> None:
        document = self.model_dump(mode="json", exclude_none=True)
        (folder / MANIFEST_FILE).write_text(yaml.safe_dump(document, sort_keys=False, width=120, allow_unicode=True), "utf-8")


class GoldenCase(Contract):
    """A raw request body with the answer expected: warm-up, readiness, `verify`, reload and README all use it."""

    verb: Literal["predict", "generate"] = "predict"
    content_type: str
    query: dict[str, str] = {}
    body_b64: str
    expected: list[Any]
    """The answer's `predictions` (or `generations`), computed without the service by what trained the model. Numbers are
    compared within `tolerance`, everything else exactly; fields that the service adds beside these are not compared."""
    tolerance: float = 1e-4


class Golden(Contract):
    cases: tuple[GoldenCase, ...] = Field(min_length=1)

    @classmethod
    def read(cls, folder: Path) -> Self:
        return cls.model_validate_json((folder / GOLDEN_FILE).read_bytes())

    def write(self, folder: Path) -> None:
        (folder / GOLDEN_FILE).write_text(self.model_dump_json(indent=1) + "\n", "utf-8")


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""The V1 protocol's bodies as pydantic models: the OpenAPI entries come from these, and a test holds live answers to them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Encoded(Body):
    """A picture or sound, base64."""

    b64: str


Instance = list[Any] | str | float | Encoded | dict[str, Any]


class Request(Body):
    """Of `:predict` and `:explain`."""

    instances: list[Instance] = Field(
        min_length=1,
        description="each a nested list (tensor), a string (text), {b64} (encoded picture or sound), or an object by input name",
    )
    parameters: dict[str, Any] = Field(default={}, description="see GET /v1/models/{name}/methods for those of :explain")


class GenerateRequest(Body):
    instances: list[dict[str, Any]] = Field(default=[], description="inputs by name; what is left out is drawn")
    parameters: dict[str, Any] = Field(default={}, description="n, class, seed")


class Score(Body):
    label: str
    index: int
    probability: float


class Classification(Score):
    top: list[Score]


class Signed(Body):
    """What every answer carries: who answered."""

    model_name: str
    model_version: str
    id: str


class Predictions(Signed):
    predictions: list[Classification | dict[str, Any]]


class Token(Body):
    text: str
    start: int = Field(description="code point of the text as sent")
    end: int


class Target(Body):
    model_config = ConfigDict(extra="allow")
    label: str | None = None
    index: int | list[int] | None = None
    region: list[int] | None = None


class Explanation(Body):
    method: str
    target: Target
    explained: Literal["logit", "probability", "value"]
    attributions: Any = Field(
        description="as the instance: its own shape, height x width x channel, or one number a token; by input for several"
    )
    tokens: list[Token | None] | dict[str, list[Token | None]] | None = None
    truncated_at: int | None = None
    geometry: dict[str, Any] | None = Field(default=None, description="maps attributions back to the picture as it was sent")
    coordinates: Literal["model", "sent"] | None = None
    columns: list[str] | dict[str, list[str]] | None = Field(default=None, description="of a table's row: what each attribution is of")
    sound: dict[str, Any] | None = Field(default=None, description="of an encoded sound: attribution i is at i / sample_rate seconds")
    instance_output: float
    baseline_output: float | None
    convergence_delta: float | None
    completeness_error: float | None
    converged: bool | None
    timed_out: bool = Field(description="true: the time was up before it was done; more time gives more")
    parity_error: float | None
    steps: int | None
    rows: int
    forward_rows: int | None = Field(default=None, description="rows that the served model computed, beside those of gradients")
    integration_error: float | None = Field(
        default=None, description="estimated distance of the attributions from the exact integral, relative to it (L2)"
    )
    uncalibrated_error: float | None = Field(
        default=None, description="the completeness error before what F's rise is known to be was put to use: what gradients alone reach"
    )
    parameters: dict[str, Any]
    precision: str
    signed: bool = Field(description="false: magnitudes, which say nothing of for and against")
    quality: dict[str, Any] | None = Field(default=None, description="with quality=true: figures that say how far to trust it")
    verdict: str | None = Field(default=None, description="with quality=true: those figures in words")
    warnings: list[str]
    seconds: float
    cached: bool = Field(description="true: computed for an earlier request, in so many seconds then")


class Agreement(Body):
    methods: list[str]
    spearman: list[list[float | None]] = Field(description="rank correlation of each pair of methods, -1 to 1")


class Explanations(Signed):
    predictions: list[Classification | dict[str, Any]]
    explanations: list[Explanation] = Field(description="one an instance; of several methods one a method, instance by instance")
    agreement: list[Agreement] | None = Field(default=None, description="of several methods: one an instance")
    model_sha256: str


class Pending(Body):
    """An explanation asked for asynchronously: it waits or is being computed."""

    id: str
    status: Literal["pending"]


class Generation(Body):
    model_config = ConfigDict(extra="allow")
    b64: str
    media_type: str


class Generations(Signed):
    generations: list[Generation]


class Error(Body):
    error: str = Field(description="what was wrong, what was expected")
    code: str = Field(description="a stable word")

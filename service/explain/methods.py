"""The table of attribution methods: what exists, what each takes, needs and promises. Imports neither torch nor Captum.

The server answers `GET /methods` and validates parameters from it; the explainer process looks up Captum's class by its
dotted name. Adding a method is adding an entry (and, where it has parameters of its own, their model).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from service.errors import BadParameter, NotExplainable, ParityRefused, UnknownChoice
from service.explain.status import TwinStatus
from service.manifest import Manifest

DEFAULT = "integrated_gradients"
DEFAULT_TOLERANCE = 0.01
Need = Literal["gradients", "baseline"]
Promise = Literal["completeness"]


def _from_json(value: Any) -> Any:
    """Lists and objects come as JSON text in query strings and in V2 parameters; true and false are no numbers."""
    if isinstance(value, bool):
        raise ValueError("expected a name, a number, a list or an object")
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"expected JSON: {error}") from None
    return value


class Region(BaseModel):
    """A class summed over a region of the output, or (without `index`) every channel of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: int | str | None = None
    region: tuple[int, int, int, int] | None = Field(default=None, description="x0, y0, x1, y1 in pixels of the output, half-open")


TargetSpec = Annotated[int | str | list[int] | Region | None, BeforeValidator(_from_json)]
BaselineSpec = Annotated[float | str | list[Any] | dict[str, Any] | None, BeforeValidator(_from_json)]


class CommonParameters(BaseModel):
    """What every method takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: TargetSpec = Field(default=None, description="label, index, list of indices, or {index, region}; default: what was predicted")
    targets: Annotated[list[TargetSpec] | None, BeforeValidator(_from_json)] = Field(default=None, description="one target per instance")
    output: str | None = Field(default=None, description="name of the output to explain; default: the first")
    explained: Literal["logit", "probability", "value"] | None = Field(default=None, description="default: the manifest's")
    seed: int = Field(default=0, ge=0, lt=2**63)
    timeout: float | None = Field(default=None, gt=0, description="seconds")
    coordinates: Literal["model", "sent"] = Field(default="model", description="whose pixels an image's attributions refer to")
    top_k: int = Field(default=5, ge=1)

    @model_validator(mode="after")
    def _one_kind_of_target(self) -> CommonParameters:
        if self.target is not None and self.targets is not None:
            raise ValueError("'target' and 'targets' exclude each other")
        return self


class BaselineParameters(CommonParameters):
    baseline: BaselineSpec = Field(
        default=None, description="zero, mean, token, a number, an instance, or an object of these by input; default: the manifest's"
    )


class IntegratedGradientsParameters(BaselineParameters):
    tolerance: float | None = Field(
        default=None, gt=0, lt=1, description=f"relative completeness error to reach; default {DEFAULT_TOLERANCE}, excludes 'steps'"
    )
    steps: int | None = Field(default=None, ge=1, description="a fixed number of Gauss-Legendre nodes, as Captum's n_steps")
    max_steps: int = Field(default=512, ge=16, description="where 'tolerance' gives up")

    @model_validator(mode="after")
    def _tolerance_or_steps(self) -> IntegratedGradientsParameters:
        if self.steps is not None and self.tolerance is not None:
            raise ValueError("'steps' and 'tolerance' exclude each other")
        return self


class SaliencyParameters(CommonParameters):
    absolute: bool = Field(default=True, description="the gradient's magnitude instead of the gradient")


@dataclass(frozen=True, slots=True)
class Method:
    name: str
    title: str
    captum: str
    """Captum's class, dotted."""
    parameters: type[CommonParameters]
    paper: str
    rows: Callable[[Any], int]
    """About how many rows the model computes for one instance, from the validated parameters."""
    needs: frozenset[Need] = frozenset({"gradients"})
    promises: frozenset[Promise] = frozenset()
    arguments: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Parameters that go to Captum's `attribute` as they are, with its own name for each."""
    integrates: bool = False
    """Whether it is an integral along a path, whose number of nodes the explainer chooses."""


METHODS: Final[Mapping[str, Method]] = MappingProxyType(
    {
        method.name: method
        for method in (
            Method(
                name="integrated_gradients",
                title="Integrated gradients",
                captum="captum.attr.IntegratedGradients",
                parameters=IntegratedGradientsParameters,
                paper="https://arxiv.org/abs/1703.01365",
                rows=lambda p: p.steps or 16,
                needs=frozenset({"gradients", "baseline"}),
                promises=frozenset({"completeness"}),
                integrates=True,
            ),
            Method(
                name="saliency",
                title="Saliency (gradient)",
                captum="captum.attr.Saliency",
                parameters=SaliencyParameters,
                paper="https://arxiv.org/abs/1312.6034",
                rows=lambda _: 1,
                arguments=MappingProxyType({"absolute": "abs"}),
            ),
            Method(
                name="input_x_gradient",
                title="Input times gradient",
                captum="captum.attr.InputXGradient",
                parameters=CommonParameters,
                paper="https://arxiv.org/abs/1605.01713",
                rows=lambda _: 1,
            ),
        )
    }
)


def find(name: str) -> Method:
    """The method of that name. Raises UnknownChoice."""
    if name not in METHODS:
        raise UnknownChoice("method", name, METHODS)
    return METHODS[name]


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """What an `:explain` asks for, checked: the method, its parameters, and how many seconds it may take."""

    method: Method
    parameters: CommonParameters
    timeout: float

    @property
    def top_k(self) -> int:
        return self.parameters.top_k

    @property
    def coordinates(self) -> str:
        return self.parameters.coordinates

    def of_instances(self, places: list[int]) -> ExplainRequest:
        """The same request for some of its instances, each with its own target. Raises BadParameter: too few targets."""
        targets = self.parameters.targets
        if targets is None:
            return self
        if max(places) >= len(targets):
            raise BadParameter(f"parameter 'targets': {len(targets)} targets, expected one an instance")
        chosen = [targets[place] for place in places]
        return replace(self, parameters=self.parameters.model_copy(update={"targets": chosen}))


def resolve(
    manifest: Manifest, parameters: Mapping[str, Any], *, max_timeout: float = 60.0, max_steps: int | None = None
) -> ExplainRequest:
    """The request that `parameters` ask for: `method` (by default the manifest's) and what that method takes.

    `max_steps` None: whoever asks has checked its own limit. Values may be text, as a query string has them; lists and
    objects JSON text. Raises UnknownChoice or BadParameter, which name what exists.
    """
    rest = dict(parameters)
    method = find(str(rest.pop("method", None) or (manifest.explain.method if manifest.explain else DEFAULT)))
    try:
        checked = method.parameters.model_validate({name: value for name, value in rest.items() if value is not None})
    except ValidationError as error:
        raise _explained(error, method) from None
    outputs = [output.name for output in manifest.outputs]
    if checked.output is not None and checked.output not in outputs:
        raise UnknownChoice("output", checked.output, outputs)
    for name in ("steps", "max_steps"):
        if max_steps is not None and (getattr(checked, name, None) or 0) > max_steps:
            raise BadParameter(
                f"parameter {name!r}: expected at most {max_steps} (setting WHYSERVE_MAX_STEPS), got {getattr(checked, name)}"
            )
    timeout = max_timeout if checked.timeout is None else checked.timeout
    if timeout > max_timeout:
        raise BadParameter(f"parameter 'timeout': expected at most {max_timeout:g} seconds (setting WHYSERVE_TIMEOUT), got {timeout:g}")
    return ExplainRequest(method, checked, timeout)


def _explained(error: ValidationError, method: Method) -> BadParameter:
    problem = error.errors(include_url=False)[0]
    name = str(problem["loc"][0]) if problem["loc"] else ""
    if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
        return UnknownChoice(f"parameter of method {method.name!r}", name, ("method", *method.parameters.model_fields))
    reason = problem["msg"].removeprefix("Value error, ")
    got = f", got {problem['input']!r}" if name else ""
    return BadParameter(f"parameter {name!r}: {reason}{got}"[:500] if name else reason)


def to_wire(request: ExplainRequest) -> dict[str, str | int | float | bool]:
    """As V2 parameters: what differs from the default, lists and objects as JSON text, without what only the server needs."""
    chosen = request.parameters.model_dump(exclude_defaults=True, exclude={"timeout", "coordinates", "top_k"})
    plain = {name: value if isinstance(value, str | int | float | bool) else orjson.dumps(value).decode() for name, value in chosen.items()}
    return {"method": request.method.name, **plain, "timeout": int(request.timeout * 1e6)}


def require(method: Method, status: TwinStatus) -> None:
    """Raises ParityRefused or NotExplainable where this model's twin can't carry this method."""
    if "gradients" not in method.needs or status.usable:
        return
    others = [m.name for m in METHODS.values() if "gradients" not in m.needs]
    without = f"methods that need no twin: {', '.join(others) or 'none yet'}"
    if status.unsupported or status.parity_error is None:
        raise NotExplainable(f"{method.title} needs gradients, and {status.reason}; {without}")
    raise ParityRefused(f"{method.title} needs gradients, and {status.reason}; {without}")


def available(manifest: Manifest, status: TwinStatus | None = None) -> list[dict[str, Any]]:
    """What `GET /v1/models/{name}/methods` lists: each method that this model supports, parameters as JSON Schema.

    `status` is what the explainer found out about the model's twin; None where it hasn't been asked yet.
    """
    default = manifest.explain.method if manifest.explain else DEFAULT
    return [
        {
            "name": method.name,
            "title": method.title,
            "default": method.name == default,
            "needs": sorted(method.needs),
            "promises": sorted(method.promises),
            "paper": method.paper,
            "parameters": method.parameters.model_json_schema(),
        }
        for method in METHODS.values()
        if status is None or status.usable or "gradients" not in method.needs
    ]

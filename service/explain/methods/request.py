"""What an `:explain` asks for: from parameters as they were sent to methods with checked parameters, and on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import ValidationError

from service.errors import BadParameter, UnknownChoice
from service.explain.methods.method import Method
from service.explain.methods.parameters import CommonParameters
from service.explain.methods.table import DEFAULT, find
from service.manifest import Manifest

Array = NDArray[Any]
MOST_METHODS = 8
"""In one request."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of what a request may ask for; None: whoever asks has checked its own limit."""

    timeout: float = 60.0
    """Seconds."""
    timeout_setting: str = "WHYSERVE_TIMEOUT"
    """What sets it, as errors name it."""
    steps: int | None = None
    samples: int | None = None


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """One method, its parameters, checked, and how many seconds it may take.

    `baseline` (1, ..) and `reference` (R, ..) are instances sent along, decoded, by graph input. `features` (n, ..) are, of
    the n instances that it is asked for, the number of each element's feature, by graph input: those of methods by
    perturbation that the instance's tensor alone doesn't tell, such as the words of a text.
    """

    method: Method
    parameters: CommonParameters
    timeout: float
    baseline: Mapping[str, Array] = field(default_factory=lambda: MappingProxyType({}))
    reference: Mapping[str, Array] = field(default_factory=lambda: MappingProxyType({}))
    features: Mapping[str, Array] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def unsigned(self) -> bool:
        return self.method.unsigned(self.parameters)

    def of_row(self, row: int) -> ExplainRequest:
        """The same request for one of the instances that `features` are of. Raises BadParameter: features of fewer ones."""
        for name, array in self.features.items():
            _require_row(name, array, row)
        return replace(self, features={name: array[row : row + 1] for name, array in self.features.items()}) if self.features else self

    def of_instances(self, places: list[int]) -> ExplainRequest:
        """The same request for some of its instances, each with its own target and features. Raises BadParameter: too few."""
        targets, parameters = self.parameters.targets, self.parameters
        if targets is not None:
            if max(places) >= len(targets):
                raise BadParameter(f"parameter 'targets': {len(targets)} targets, expected one an instance")
            parameters = parameters.model_copy(update={"targets": [targets[place] for place in places]})
        for name, array in self.features.items():
            _require_row(name, array, max(places))
        return replace(self, parameters=parameters, features={name: array[places] for name, array in self.features.items()})


def _require_row(name: str, features: Array, row: int) -> None:
    if features.ndim == 0 or len(features) <= row:
        raise BadParameter(f"tensor 'features.{name}': expected a row for each instance, got shape {list(features.shape)}")


def resolve(manifest: Manifest, parameters: Mapping[str, Any], limits: Limits = Limits()) -> ExplainRequest:
    """The request for the one method that `parameters` name (by default the manifest's).

    Raises what `resolve_all` raises, and BadParameter for several methods.
    """
    requests = resolve_all(manifest, parameters, limits)
    if len(requests) > 1:
        raise BadParameter(f"parameter 'method': one method at a time here, got {', '.join(r.method.name for r in requests)}")
    return requests[0]


def resolve_all(manifest: Manifest, parameters: Mapping[str, Any], limits: Limits = Limits()) -> tuple[ExplainRequest, ...]:
    """The requests that `parameters` ask for: `method` (one name, several with commas or as a list; by default the manifest's)
    and what these methods take. With several, each takes those of the parameters that it knows.

    Values may be text, as a query string has them; lists and objects JSON text. Raises UnknownChoice or BadParameter,
    which name what exists.
    """
    rest = {name: value for name, value in parameters.items() if value is not None}
    methods = _methods(rest.pop("method", None) or (manifest.explain.method if manifest.explain else DEFAULT))
    known = dict.fromkeys(name for method in methods for name in method.parameters.model_fields)  # in their order
    for name in rest:
        if name not in known:
            whose = f"parameter of method {methods[0].name!r}" if len(methods) == 1 else "parameter of these methods"
            raise UnknownChoice(whose, name, ("method", *known))
    return tuple(_one(manifest, m, {n: v for n, v in rest.items() if n in m.parameters.model_fields}, limits) for m in methods)


def _methods(spec: Any) -> list[Method]:
    if isinstance(spec, str) and spec.lstrip().startswith("["):
        try:
            spec = orjson.loads(spec)
        except orjson.JSONDecodeError as error:
            raise BadParameter(f"parameter 'method': expected a JSON list: {error}") from None
    names = [str(name).strip() for name in (spec if isinstance(spec, list) else str(spec).split(","))]
    if not 1 <= len(names) <= MOST_METHODS:
        raise BadParameter(f"parameter 'method': expected 1 to {MOST_METHODS} methods, got {len(names)}")
    if len(set(names)) != len(names):
        raise BadParameter(f"parameter 'method': a method twice in {', '.join(names)}"[:200])
    return [find(name) for name in names]


def _one(manifest: Manifest, method: Method, sent: Mapping[str, Any], limits: Limits) -> ExplainRequest:
    try:
        checked = method.parameters.model_validate(sent)
    except ValidationError as error:
        raise _explained(error, method) from None
    outputs = [output.name for output in manifest.outputs]
    if checked.output is not None and checked.output not in outputs:
        raise UnknownChoice("output", checked.output, outputs)
    for name, most, setting in (
        ("steps", limits.steps, "WHYSERVE_MAX_STEPS"),
        ("max_steps", limits.steps, "WHYSERVE_MAX_STEPS"),
        ("n_samples", limits.samples, "WHYSERVE_MAX_SAMPLES"),
    ):
        asked = getattr(checked, name, None) or 0
        if most is not None and asked > most:
            raise BadParameter(f"parameter {name!r}: expected at most {most} (setting {setting}), got {asked}")
    timeout = limits.timeout if checked.timeout is None else checked.timeout
    if timeout > limits.timeout:
        raise BadParameter(
            f"parameter 'timeout': expected at most {limits.timeout:g} seconds (setting {limits.timeout_setting}), got {timeout:g}"
        )
    return ExplainRequest(method, checked, timeout)


def _explained(error: ValidationError, method: Method) -> BadParameter:
    problem = error.errors(include_url=False)[0]
    name = str(problem["loc"][0]) if problem["loc"] else ""
    if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
        return UnknownChoice(f"parameter of method {method.name!r}", name, ("method", *method.parameters.model_fields))
    reason = problem["msg"].removeprefix("Value error, ")
    got = f", got {problem['input']!r}" if name else ""
    return BadParameter(f"parameter {name!r}: {reason}{got}"[:500] if name else reason)


# --------------------------------------------------------------------------------------------------------------- wire

COMPANIONS = ("baseline", "reference", "features")
"""What is sent along travels as tensors named `baseline.<input>`, `reference.<input>` and `features.<input>`."""


def to_wire(request: ExplainRequest) -> dict[str, str | int | float | bool]:
    """As V2 parameters: what differs from the default, lists and objects as JSON text, without what only the server needs."""
    chosen = request.parameters.model_dump(exclude_defaults=True, exclude={"timeout", "coordinates", "top_k"})
    plain = {name: value if isinstance(value, str | int | float | bool) else orjson.dumps(value).decode() for name, value in chosen.items()}
    return {"method": request.method.name, **plain, "timeout": int(request.timeout * 1e6)}


def companions(request: ExplainRequest) -> dict[str, Array]:
    """The tensors that travel beside the instances'."""
    sent = zip(COMPANIONS, (request.baseline, request.reference, request.features), strict=True)
    return {f"{kind}.{name}": array for kind, arrays in sent for name, array in arrays.items()}


def with_companions(request: ExplainRequest, tensors: Mapping[str, Array], inputs: set[str]) -> tuple[ExplainRequest, dict[str, Array]]:
    """The request with the companions among `tensors`, and the other tensors; `inputs` are the graph's own."""
    found: dict[str, dict[str, Array]] = {kind: {} for kind in COMPANIONS}
    rest = {}
    for name, array in tensors.items():
        kind, _, of = name.partition(".")
        if name not in inputs and kind in found and of in inputs:
            found[kind][of] = np.asarray(array)
        else:
            rest[name] = array
    return replace(request, baseline=found["baseline"], reference=found["reference"], features=found["features"]), rest

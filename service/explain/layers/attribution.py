"""Attributions of a layer's units, by Captum's layer classes on the faithful twin.

Layer conductance (Dhamdhere, Sundararajan, Yan 2018, https://arxiv.org/abs/1805.12233), internal influence (Leino et al. 2018,
https://arxiv.org/abs/1802.03788), layer gradient times activation, and Grad-CAM as it is in the layer (Selvaraju et al. 2017,
https://arxiv.org/abs/1610.02391).
"""

from __future__ import annotations

import contextlib
import importlib
import time
import warnings as python_warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from service.errors import BadParameter, DeadlineExceeded, NotExplainable
from service.explain.cancel import TimeUp, Token
from service.explain.case import Case, scale
from service.explain.layers import activations
from service.explain.layers.catalog import cut_at, hearing, module_of
from service.explain.layers.layer import Catalog, Layer, first
from service.explain.layers.methods import DEFAULT_STEPS
from service.explain.layers.parameters import LayerAttributionParameters
from service.explain.layers.selection import chosen, require_small
from service.explain.layers.studied import Studied
from service.explain.methods.method import Method
from service.explain.methods.request import ExplainRequest
from service.explain.parity import parity_error
from service.explain.served import Served
from service.explain.subject import Subject

Array = NDArray[Any]
Arrays = Mapping[str, Array]
DEFAULT_TOLERANCE = 0.01
FIRST_STEPS = 32
"""Nodes that conductance begins with; doubled until the shares add up."""
LEAST_ROWS = 4
"""Captum's conductance needs both ends of a step in one pass."""


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """A layer under a case."""

    case: Case
    layer: Layer
    module: nn.Module
    forward: Any
    """F (N,) by the faithful twin, from attributed tensors and the others, (N, ..) each."""
    cut: bool
    """Whether all of F passes the layer: its shares then add up."""


def default(catalog: Catalog) -> Layer:
    """The last feature maps behind a non-linearity, the deepest that still know where; else the last hidden activation."""
    usable = [layer for layer in catalog.layers if layer.attributable][::-1]
    layer = first(usable, "spatial activation", "spatial", "activation", "any")
    if layer is None:
        raise NotExplainable(f"no layer of this model can be attributed to: {_why_none(catalog)}")
    return layer


def attribute(
    subject: Subject,
    layer: Layer,
    served: Served | None,
    rows: Arrays,
    request: ExplainRequest,
    token: Token,
    memory: int,
) -> Studied:
    """Attributions of the layer's units for each row of `rows` (n, ..).

    Raises NotExplainable (the layer can't be addressed, with the reason), BadParameter, TooLarge, DeadlineExceeded, Cancelled.
    """
    parameters = request.parameters
    assert isinstance(parameters, LayerAttributionParameters)
    _require(layer, request.method)
    count = len(next(iter(rows.values())))
    targets = parameters.targets or [parameters.target] * count
    if len(targets) != count:
        raise BadParameter(f"parameter 'targets': {len(targets)} targets for {count} instances")
    found = []
    for i in range(count):
        feeds = {name: np.ascontiguousarray(array[i : i + 1]) for name, array in rows.items()}
        case = Case(subject, request, feeds, targets[i], token, memory)
        try:
            row = _one(case, layer, served)
        except TimeUp:
            raise DeadlineExceeded(f"no layer attribution within {request.timeout:g} s (parameter 'timeout')") from None
        if "attributions" in row:
            row["attributions"] = _selected(row["attributions"], parameters, layer)
            require_small(row["attributions"].size * count, f"the attributions of layer {layer.name!r}")
        found.append(row)
    return Studied({"layer": layer.model_dump(), "channels": parameters.channels}, tuple(found))


def _one(case: Case, layer: Layer, served: Served | None) -> dict[str, Any]:
    parameters = case.request.parameters
    assert isinstance(parameters, LayerAttributionParameters)
    segment = case.subject.segment((case.scalar.tensor,), form="faithful")

    def forward(*tensors: Tensor) -> Tensor:
        case.token.check()
        return case.scalar.of(segment(*tensors)[0])

    place = _Place(case, layer, module_of(case.subject, layer), forward, cut_at(case.subject, layer, (case.scalar.tensor,)))
    parity = _parity(place, served)
    limit = case.subject.status.parity_limit
    fields: dict[str, Any] = {
        "method": case.request.method.name,
        "target": case.scalar.target.described,
        "explained": case.scalar.explained,
        "instance_output": case.instance_output,
        "parity_error": parity,
    }
    if not parity <= limit:
        why = f"on this instance the twin's layer differs from the served model's (parity error {parity:.2g}, limit {limit:.2g})"
        return fields | _nothing([f"{why}, so there is no attribution to trust"], case)
    integrates = "baseline" in case.request.method.needs
    array, steps = _integrated(place) if integrates else (_local(place), 1)
    if not np.isfinite(array).all():
        return fields | _nothing(["the gradients are not finite on this instance, so there is no attribution to trust"], case)
    return fields | {"attributions": array} | _judged(place, array, steps, integrates)


def _integrated(place: _Place) -> tuple[Array, int]:
    """Over the straight path from the baseline; conductance with twice the nodes until its shares add up."""
    parameters = place.case.request.parameters
    assert isinstance(parameters, LayerAttributionParameters)
    if parameters.steps is not None:
        return _over_path(place, parameters.steps), parameters.steps
    if not place.case.request.method.promises or not place.cut:
        return _over_path(place, DEFAULT_STEPS), DEFAULT_STEPS
    steps, tolerance = min(FIRST_STEPS, parameters.max_steps), parameters.tolerance or DEFAULT_TOLERANCE
    array = _over_path(place, steps)
    while _error(place, array)[1] > tolerance and 2 * steps <= parameters.max_steps:
        try:
            array, steps = _over_path(place, 2 * steps), 2 * steps
        except TimeUp:
            break  # what there is may still be an answer, and says how far it may be trusted
    return array, steps


def _over_path(place: _Place, steps: int) -> Array:
    case = place.case
    with _unhooked(place):
        result = _captum(place).attribute(
            case.point,
            baselines=case.baseline.point,
            additional_forward_args=case.others or None,
            n_steps=steps,
            internal_batch_size=max(LEAST_ROWS, case.rows),
        )
    return _row(result)


def _local(place: _Place) -> Array:
    case = place.case
    leaves = tuple(t.detach().requires_grad_() for t in case.point)
    with _unhooked(place):
        return _row(_captum(place).attribute(leaves, additional_forward_args=case.others or None))


def _captum(place: _Place) -> Any:
    module, _, name = place.case.request.method.captum.rpartition(".")
    return getattr(importlib.import_module(module), name)(place.forward, place.module)


def _row(result: Any) -> Array:
    (tensor,) = result if isinstance(result, tuple) else (result,)
    return np.asarray(tensor.detach()[0].cpu().numpy())


@contextlib.contextmanager
def _unhooked(place: _Place) -> Iterator[None]:
    """Captum removes its hooks, but not where a pass is stopped at a bad moment: afterwards the layer has those it had before."""
    kept = [(hooks, dict(hooks)) for hooks in _hooks(place.module)]
    with python_warnings.catch_warnings(), torch.enable_grad():
        python_warnings.simplefilter("ignore", UserWarning)  # Captum tells of the hooks it sets, and of gradients it turns on
        try:
            yield
        finally:
            for hooks, before in kept:
                for key in set(hooks) - set(before):
                    del hooks[key]


def _hooks(module: nn.Module) -> tuple[dict[int, Any], ...]:
    return module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks


def _parity(place: _Place, served: Served | None) -> float:
    """The larger error of F's tensor and of the layer's, on this row."""
    case = place.case
    with hearing({"layer": place.module}) as heard, torch.no_grad():
        segment = case.subject.segment((case.scalar.tensor,), form="faithful")
        (values,) = segment(*case.point, *case.others)
    error = parity_error({"": values.numpy()}, {"": case.ran[case.scalar.tensor]})
    tensor = heard.get("layer")
    if not isinstance(tensor, Tensor):
        return float("inf")
    if served is None:
        return error
    wanted = activations.one(case.subject, served, place.layer, case.feeds)
    return max(error, parity_error({"": tensor[0].numpy()}, {"": wanted}))


def _error(place: _Place, array: Array) -> tuple[float, float]:
    """Sum of the shares minus what F moved, and that in relation."""
    case = place.case
    moved = case.instance_output - case.baseline.output
    delta = float(array.astype(np.float64).sum()) - moved
    return delta, abs(delta) / scale(case.instance_output, case.baseline.output)


def _judged(place: _Place, array: Array, steps: int, integrates: bool) -> dict[str, Any]:
    case, warnings = place.case, []
    parameters = case.request.parameters
    assert isinstance(parameters, LayerAttributionParameters)
    delta = error = None
    converged = True
    if case.request.method.promises and integrates:
        delta, error = _error(place, array)
        tolerance = parameters.tolerance or DEFAULT_TOLERANCE
        converged = error <= tolerance or not place.cut
        if not converged:
            warnings.append(f"completeness error {error:.2g} is above the tolerance {tolerance:g} (after {steps} steps)")
        if not place.cut:
            warnings.append("parts of the output reach it past this layer, so its units' shares needn't add up to what the output moved")
    resolved = {"steps": steps, "seed": parameters.seed} | ({"baseline": case.baseline.described} if integrates else {})
    return {
        "baseline_output": case.baseline.output if integrates else None,
        "convergence_delta": delta,
        "completeness_error": error,
        "converged": converged,
        "steps": steps,
        "parameters": resolved,
        "warnings": warnings,
        "seconds": round(time.perf_counter() - case.started, 6),
    }


def _nothing(warnings: list[str], case: Case) -> dict[str, Any]:
    missing = dict.fromkeys(("baseline_output", "convergence_delta", "completeness_error"))
    seconds = round(time.perf_counter() - case.started, 6)
    return missing | {"converged": False, "steps": 0, "parameters": {}, "warnings": warnings, "seconds": seconds}


def _selected(array: Array, parameters: LayerAttributionParameters, layer: Layer) -> Array:
    # Grad-CAM weighs the channels and leaves one map.
    return array if parameters.method == "layer_grad_cam" else chosen(array, parameters.channels, layer.unit_axis, f"layer {layer.name!r}")


def _require(layer: Layer, method: Method) -> None:
    if not layer.attributable:
        raise NotExplainable(f"layer {layer.name!r} ({layer.operator}) can't be attributed to: {layer.note}")
    if method.name == "layer_grad_cam" and not layer.grad_cam:
        raise NotExplainable(f"Grad-CAM needs a layer with maps, and layer {layer.name!r} has none: its shape is {list(layer.row_shape)}")


def _why_none(catalog: Catalog) -> str:
    return catalog.reason or "; ".join(dict.fromkeys(layer.note for layer in catalog.layers)) or "it has none"

"""Grad-CAM and guided Grad-CAM: where a layer's maps speak for the output, enlarged to the input's size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from captum.attr import GuidedBackprop, LayerAttribution, LayerGradCam
from numpy.typing import NDArray
from torch import Tensor, nn

from service.errors import NotExplainable, UnknownChoice
from service.explain.attribution.found import Found
from service.explain.attribution.hooked import EXPORTED, Hooked
from service.explain.attribution.problem import Problem, first_rows, without_noise
from service.explain.carry import CONVOLUTIONS, LINEAR, MAX_POOLS, RESCALED, map_axes
from service.explain.case import Case
from service.explain.methods.layer import GradCamParameters, LayerParameters
from service.manifest import Input

_ANY = (*LINEAR, *MAX_POOLS, *RESCALED)


def run(case: Case) -> Found:
    parameters, method, problem = case.request.parameters, case.request.method, Problem.of(case)
    assert isinstance(parameters, LayerParameters)  # the table says so
    hooked = Hooked(case, problem, method)
    inputs = {entry.name: entry for entry in case.subject.manifest.inputs}
    name, layer = _chosen(parameters.layer, problem, hooked, [inputs[problem.names[place]] for place in problem.active])
    relu = parameters.relu if isinstance(parameters, GradCamParameters) else True
    captum = LayerGradCam(hooked, layer)
    found = without_noise(lambda: captum.attribute(problem.of_active(case.point), None, problem.arguments, relu_attributions=relu))
    maps = found.detach().cpu()  # (1, 1, spatial..)
    enlarged, skipped = {}, []
    for place in problem.active:
        entry, shape = inputs[problem.names[place]], problem.shapes[place]
        axes = map_axes(entry, shape, maps.dim() - 2)
        if axes is None:
            skipped.append(entry.name)
        else:
            enlarged[entry.name] = _on_input(maps, axes, shape)
    if not enlarged:
        raise NotExplainable(
            f"{method.title}: layer {name!r} has {maps.dim() - 2} spatial axes, which no input of the model has; choose another layer"
        )
    warnings = tuple(f"layer {name!r} doesn't map onto input {skipped_name!r}: its attributions are 0" for skipped_name in skipped)
    attributions = {n: enlarged.get(n, np.zeros(s, np.float32)) for n, s in zip(problem.names, problem.shapes, strict=True)}
    rows = 1
    if method.name == "guided_grad_cam":
        guided = _guided(case, problem)
        attributions = {n: np.asarray(a * guided[n], np.float32) for n, a in attributions.items()}
        rows = 2
    return Found(attributions, 1, rows, parameters={**EXPORTED, "layer": name}, warnings=warnings)


def _guided(case: Case, problem: Problem) -> dict[str, NDArray[np.float32]]:
    captum = GuidedBackprop(Hooked(case, problem, case.request.method))
    found = without_noise(lambda: captum.attribute(problem.leaves, additional_forward_args=problem.arguments))
    return problem.attributions(first_rows(found))


def _chosen(asked: str | None, problem: Problem, hooked: Hooked, inputs: Sequence[Input]) -> tuple[str, nn.Module]:
    """The layer by name, or the last convolution with maps of more than one position that have the axes of an input. Raises
    UnknownChoice, NotExplainable."""
    layers: dict[str, nn.Module] = {name: module for name, module in hooked.layers.items() if isinstance(module, _ANY)}
    shapes = _output_shapes(problem, hooked, layers)
    spatial = {name: layers[name] for name, shape in shapes.items() if len(shape) > 2 and max(shape[2:]) > 1}
    if asked is not None:
        if asked not in spatial:
            raise UnknownChoice("layer", asked, spatial)
        return asked, spatial[asked]
    ranks = {name: len(shapes[name]) - 2 for name, module in spatial.items() if isinstance(module, CONVOLUTIONS)}
    convolutions = [name for name, rank in ranks.items() if any(map_axes(i, i.shape, rank) is not None for i in inputs)]
    if not convolutions:
        raise NotExplainable("no convolution of this model has maps of more than one position with the axes of an input")
    return convolutions[-1], spatial[convolutions[-1]]


def _output_shapes(problem: Problem, hooked: Hooked, layers: dict[str, nn.Module]) -> dict[str, tuple[int, ...]]:
    """(1, channels, spatial..) of each layer's output, in the order in which they run."""
    shapes: dict[str, tuple[int, ...]] = {}
    handles = []
    for name, module in layers.items():
        # A copy of the layer that goes away with `hooked`, but Captum is to find it bare.
        handles.append(module.register_forward_hook(lambda _, __, output, name=name: shapes.update({name: tuple(output.shape)})))
    try:
        with torch.no_grad():
            hooked(*problem.of_active(problem.point), *(problem.arguments or ()))
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def _on_input(maps: Tensor, axes: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Maps (1, 1, spatial..) enlarged to the input's spatial axes, the same for every channel, in the input's shape."""
    sizes = tuple(shape[a] for a in axes)
    enlarged = LayerAttribution.interpolate(maps, sizes)[0, 0].numpy()  # nearest, as Captum's GuidedGradCam does
    whole = enlarged.reshape([shape[i] if i in axes else 1 for i in range(len(shape))])
    return np.ascontiguousarray(np.broadcast_to(whole, shape), np.float32)

"""Occlusion: a window slides over the input, and what it covers is replaced (Zeiler and Fergus 2014, https://arxiv.org/abs/1311.2901)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from service.errors import BadParameter, UnknownChoice
from service.explain.attribution.found import Found
from service.explain.attribution.game import Game
from service.explain.attribution.problem import captum_class
from service.explain.case import Case
from service.explain.features import absent, cells
from service.explain.methods.perturbation import OcclusionParameters
from service.manifest import Input

Shape = tuple[int, ...]
FEW = 256
"""A tensor of so many elements is covered one by one; of a larger one blocks, 16 a side of its last two axes."""


def run(case: Case) -> Found:
    """Of each cell (a picture's pixel, else an element) the mean of F(x) - F(x covered) over the windows that cover it, divided
    among the cell's elements (a pixel's channels)."""
    parameters = case.request.parameters
    assert isinstance(parameters, OcclusionParameters)  # the table says so
    inputs = case.subject.manifest.inputs
    slid = {entry.name: cells(entry, case.feeds[entry.name][0]) for entry in inputs}
    shapes = {name: shape for name, (_, shape) in slid.items()}
    windows = {e.name: _window(_of(parameters.window, e.name, shapes), e, shapes[e.name]) for e in inputs}
    strides = {e.name: _stride(_of(parameters.stride, e.name, shapes), e, windows[e.name], shapes[e.name]) for e in inputs}
    missing = absent.choose(case)
    game = Game(case, {name: groups for name, (groups, _) in slid.items()}, missing, whole=True)
    captum = captum_class(case.request.method)(game.forward)
    found = captum.attribute(
        tuple(torch.ones(1, *shape) for shape in shapes.values()),
        tuple(windows.values()),
        tuple(strides.values()),
        baselines=tuple(0 for _ in shapes),
        perturbations_per_eval=_at_once(case, game),
    )
    values = torch.cat([t.flatten() for t in found]).double().numpy()
    return Found(
        game.attributions(values),
        steps=game.rows,
        rows=game.rows,
        baseline=absent.described(missing),
        baseline_output=game.empty,
        parameters={"window": _described(windows), "stride": _described(strides)},
    )


def _at_once(case: Case, game: Game) -> int:
    """Windows that Captum covers before it asks: it holds a few float copies of all cells for each."""
    return max(1, min(case.forward_rows, case.memory // (32 * game.count)))


def _of(spec: Any, name: str, shapes: Mapping[str, Shape]) -> Any:
    """The part of a window or stride that is meant for an input."""
    if not isinstance(spec, Mapping):
        return spec
    for asked in spec:
        if asked not in shapes:
            raise UnknownChoice("input in parameters 'window' and 'stride'", asked, shapes)
    return spec.get(name)


def _window(spec: Any, entry: Input, shape: Shape) -> Shape:
    if spec is None:
        return _default(entry, shape)
    window = _on_axes("window", spec, entry, shape)
    if any(size > whole for size, whole in zip(window, shape, strict=True)):
        raise BadParameter(f"parameter 'window': {list(window)} is larger than input {entry.name!r}, which has {list(shape)}")
    return window


def _stride(spec: Any, entry: Input, window: Shape, shape: Shape) -> Shape:
    if spec is None:
        return tuple(max(1, size // 2) for size in window)
    stride = _on_axes("stride", spec, entry, shape, whole=window)
    if any(step > size and size < full for step, size, full in zip(stride, window, shape, strict=True)):
        raise BadParameter(f"parameter 'stride': {list(stride)} would leave gaps between windows of {list(window)}")
    return stride


def _on_axes(what: str, spec: int | list[int], entry: Input, shape: Shape, whole: Shape | None = None) -> Shape:
    """A number is meant for the last two axes; those before them are covered whole."""
    if isinstance(spec, int):
        return (*(whole or shape)[:-2], *(spec for _ in shape[-2:]))
    if len(spec) != len(shape):
        raise BadParameter(
            f"parameter {what!r}: {len(spec)} sizes for input {entry.name!r}, expected {len(shape)}, as it has {list(shape)}"
        )
    return tuple(spec)


def _default(entry: Input, shape: Shape) -> Shape:
    if entry.image:
        return tuple(-(-size // 8) for size in shape)
    if entry.audio:
        return tuple(-(-size // 32) for size in shape)
    elements = 1
    for size in shape:
        elements *= size
    if entry.text or entry.table or elements <= FEW:
        return tuple(1 for _ in shape)
    return (*shape[:-2], *(-(-size // (16 if len(shape) > 1 else FEW)) for size in shape[-2:]))


def _described(sizes: Mapping[str, Shape]) -> Any:
    every = {name: list(size) for name, size in sizes.items()}
    return next(iter(every.values())) if len(every) == 1 else every

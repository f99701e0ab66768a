"""What a layer's weights look like: the kernels of a convolution, or a linear layer's weights laid out as the input is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from service.errors import NotExplainable
from service.explain.layers.catalog import module_of
from service.explain.layers.layer import Catalog, Layer
from service.explain.layers.parameters import FilterParameters
from service.explain.layers.selection import chosen, require_small
from service.explain.layers.studied import Studied
from service.explain.subject import Subject

Array = NDArray[Any]
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def default(subject: Subject, catalog: Catalog) -> Layer:
    """The first convolution; without one the first linear layer."""
    weighted = [layer for layer in catalog.layers if layer.kind in ("convolution", "linear") and _weight(subject, layer) is not None]
    for kind in ("convolution", "linear"):
        for layer in weighted:
            if layer.kind == kind:
                return layer
    raise NotExplainable("this model has no filters to show: no convolution, and no linear layer")


def filters(subject: Subject, layer: Layer, wanted: FilterParameters) -> Studied:
    """The filters (units, ..) of a layer. Raises NotExplainable where it has none, BadParameter, TooLarge."""
    weight = _weight(subject, layer)
    if weight is None:
        raise NotExplainable(f"layer {layer.name!r} ({layer.operator}) has no filters to show; convolutions and linear layers have")
    array, axes = _laid_out(subject, layer, weight)
    array = chosen(array, wanted.channels, 0, f"layer {layer.name!r}")
    require_small(array.size, f"the filters of layer {layer.name!r}")
    return Studied({"layer": layer.model_dump(), "axes": axes, "channels": wanted.channels}, ({"values": array},))


def _weight(subject: Subject, layer: Layer) -> Tensor | None:
    module = subject.faithful.modules_by_node.get(layer.name)
    weight = getattr(module, "weight", None)
    return weight if layer.kind in ("convolution", "linear") and isinstance(weight, Tensor) and weight.dim() >= 2 else None


def _laid_out(subject: Subject, layer: Layer, weight: Tensor) -> tuple[Array, list[str]]:
    """(units, channels, ..) of a convolution; of a linear layer (units, inputs), or as the picture where it looks at all of one."""
    array = weight.detach().cpu().float().numpy()
    if layer.kind == "convolution":
        places = ["time"] if array.ndim == 3 else ["depth", "height", "width"][-(array.ndim - 2) :]
        if isinstance(module_of(subject, layer), _TRANSPOSED):
            array = np.swapaxes(array, 0, 1)
        return array, ["filter", "input channel", *places]
    for declared in subject.manifest.inputs:
        if declared.image and None not in declared.shape and math.prod(size or 0 for size in declared.shape) == array.shape[1]:
            picture = array.reshape(-1, *(size or 0 for size in declared.shape))
            nhwc = declared.image.layout == "NHWC"
            return (picture.transpose(0, 3, 1, 2) if nhwc else picture), ["unit", "input channel", "height", "width"]
    return array, ["unit", "input"]

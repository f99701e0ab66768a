"""What a layer gives for an instance: the tensor of the served model itself, in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from service.errors import NotExplainable
from service.explain.cancel import Token
from service.explain.layers.layer import Catalog, Layer, first
from service.explain.layers.parameters import ActivationParameters
from service.explain.layers.selection import chosen, require_small
from service.explain.layers.studied import Studied
from service.explain.served import Served
from service.explain.subject import Subject

Array = NDArray[Any]
Arrays = Mapping[str, Array]


def default(catalog: Catalog) -> Layer:
    """The first feature maps behind a non-linearity, where edges are still to be seen; else what comes nearest to that."""
    known = [layer for layer in catalog.layers if layer.shape is not None]
    layer = first(known, "spatial activation", "spatial", "recurrent", "activation", "any")
    if layer is None:
        raise NotExplainable("this model has no layers: none of its operators has weights, is a non-linearity or a pooling")
    return layer


def activations(subject: Subject, served: Served | None, layer: Layer, rows: Arrays, wanted: ActivationParameters, token: Token) -> Studied:
    """Of each row of `rows` (n, ..). `served` shows the layer's tensor beside its outputs; None where it can't.

    Raises TooLarge, BadParameter.
    """
    count = len(next(iter(rows.values())))
    found = []
    for i in range(count):
        token.check()
        values = one(subject, served, layer, {name: array[i : i + 1] for name, array in rows.items()})
        values = chosen(values, wanted.channels, layer.unit_axis, f"layer {layer.name!r}")
        require_small(values.size * count, f"the activations of layer {layer.name!r}")
        found.append({"values": values})
    return Studied(
        {"layer": layer.model_dump(), "channels": wanted.channels, "computed_by": "twin" if served is None else "served model"},
        tuple(found),
    )


def one(subject: Subject, served: Served | None, layer: Layer, feeds: Arrays) -> Array:
    """The layer's tensor for one row (1, ..), without the batch axis."""
    if served is not None:
        return np.asarray(np.take(served.run(feeds)[layer.output], 0, layer.batch_axis))
    # It stands in a function of the model's own, whose tensors ONNX Runtime doesn't give away.
    segment = subject.faithful.segment((), (layer.output,))
    with torch.no_grad():
        (tensor,) = segment(*(np.ascontiguousarray(feeds[name]) for name in segment.input_names))
    return np.asarray(tensor.numpy()[0])

"""The operators by family; importing this package registers them all."""

from service.explain.twin.operators import (
    activation,
    control,
    convolution,
    elementwise,
    index,
    layout,
    linear,
    logic,
    normalization,
    pooling,
    quantization,
    recurrent,
    reduce,
    resize,
    sequence,
    source,
)

__all__ = [
    "activation",
    "control",
    "convolution",
    "elementwise",
    "index",
    "layout",
    "linear",
    "logic",
    "normalization",
    "pooling",
    "quantization",
    "recurrent",
    "reduce",
    "resize",
    "sequence",
    "source",
]

"""Frees a graph from a batch size that its export has baked into Reshape targets: integration runs many rows at once."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper


def rebatched(model: onnx.ModelProto, baked: int = 1) -> onnx.ModelProto:
    """A copy in which constant Reshape targets that begin with `baked` take the batch as it comes.

    A guess (a leading 1 may be meant): only for a twin that fails at another batch size, and parity then judges it.
    """
    freed = onnx.ModelProto()
    freed.CopyFrom(model)
    constants = {t.name: t for t in freed.graph.initializer} | {
        node.output[0]: attribute.t
        for node in freed.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    targets = {node.input[1] for node in freed.graph.node if node.op_type == "Reshape" and len(node.input) > 1}
    for name in targets & constants.keys():
        sizes = numpy_helper.to_array(constants[name]).copy()
        if sizes.ndim == 1 and sizes.size > 1 and sizes[0] == baked:
            # What -1 stands for is computed; where it is taken already, 0 copies the input's own first size.
            sizes[0] = 0 if -1 in sizes else -1
            constants[name].CopyFrom(numpy_helper.from_array(np.asarray(sizes, np.int64), name))
    return freed

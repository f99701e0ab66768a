"""A manifest for a bare `model.onnx`: tensors in, tensors out, as the graph itself declares them."""

from __future__ import annotations

from typing import Any, get_args

from service.engine.running import TensorInfo
from service.engine.session import Session
from service.manifest import MODEL_FILE, Batching, Dtype, Input, Manifest, Output
from service.repository.bundle import BadBundle, Bundle


def bare_manifest(bundle: Bundle, session: Session) -> Manifest:
    """What can be said of a model nobody described. Rows aren't known to be independent, so they are never mixed.

    Raises BadBundle where an input or output isn't a plain tensor of a dtype that can be sent.
    """
    fixed = [info.shape[0] for info in session.inputs if info.shape and info.shape[0] is not None]
    return Manifest(
        name=bundle.location.name,
        version=bundle.location.version,
        task="other",
        inputs=tuple(Input(codec="tensor", **_described(info)) for info in session.inputs),
        outputs=tuple(Output(kind="tensor", **_described(info)) for info in session.outputs),
        batching=Batching(max=max(1, *fixed) if fixed else 32, rows_independent=False),
        files={MODEL_FILE: bundle.model_sha256},
    )


def _described(info: TensorInfo) -> dict[str, Any]:
    if info.dtype not in get_args(Dtype):
        raise BadBundle(f"tensor {info.name!r} has the type {info.dtype}, which can't be sent; write a manifest for this model")
    return {"name": info.name, "dtype": info.dtype, "shape": info.shape[1:]}

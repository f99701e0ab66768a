"""What an explanation depends on, as one short key: two requests with the same key get the same explanation."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
import orjson

from service.explain.methods import ExplainRequest, to_wire
from service.repository.loaded import LoadedModel

Array = np.ndarray[Any, Any]
Key = bytes


def keys(model: LoadedModel, request: ExplainRequest, feeds: Mapping[str, Array]) -> list[Key]:
    """One a row of `feeds` (n, ..): the model's file and manifest (which names the hashes of its other files), the method with
    what its parameters compute, the row's target, tensors and features.

    A cryptographic hash, so that nobody can make up an input that is answered with another one's explanation. Raises
    BadParameter where there are features or targets of fewer rows.
    """
    rows = len(next(iter(feeds.values())))
    if rows and (request.features or request.parameters.targets is not None):
        request = request.of_instances(list(range(rows)))  # as many as there are rows
    parameters = to_wire(request)
    for name in ("timeout", "target", "targets"):
        parameters.pop(name, None)
    common = blake2b(model.fingerprint, digest_size=32)
    common.update(orjson.dumps(parameters, option=orjson.OPT_SORT_KEYS))
    for name, array in sorted(request.baseline.items()):
        _add(common, f"baseline.{name}", array)
    for name, array in sorted(request.reference.items()):
        _add(common, f"reference.{name}", array)
    chosen = request.parameters.model_dump(include={"target", "targets"})
    targets = chosen["targets"] or [chosen["target"]] * rows
    own = sorted(feeds.items()) + [(f"features.{name}", array) for name, array in sorted(request.features.items())]
    return [_of_row(common.copy(), targets[row], own, row) for row in range(rows)]


def _of_row(digest: Any, target: Any, own: list[tuple[str, Array]], row: int) -> Key:
    digest.update(orjson.dumps([target]))
    for name, array in own:
        _add(digest, name, array[row])
    key: Key = digest.digest()
    return key


def _add(digest: Any, name: str, array: Array) -> None:
    array = np.asarray(array)
    digest.update(f"{name}:{array.dtype.str}:{array.shape}:".encode())
    digest.update(repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes())  # objects are strings

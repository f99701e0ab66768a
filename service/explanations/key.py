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
    parameters = to_wire(request)
    for name in ("timeout", "target", "targets"):
        parameters.pop(name, None)
    common = blake2b(model.fingerprint, digest_size=32)
    common.update(orjson.dumps(parameters, option=orjson.OPT_SORT_KEYS))
    for name, array in sorted(request.baseline.items()):
        _add(common, f"baseline.{name}", array)
    for name, array in sorted(request.reference.items()):
        _add(common, f"reference.{name}", array)
    return [_row(common.copy(), request, feeds, row) for row in range(len(next(iter(feeds.values()))))]


def _row(digest: Any, request: ExplainRequest, feeds: Mapping[str, Array], row: int) -> Key:
    alone = request.of_instances([row])
    target = alone.parameters.model_dump(include={"target", "targets"})
    digest.update(orjson.dumps(target["targets"] or [target["target"]]))
    for name, array in sorted(feeds.items()):
        _add(digest, name, array[row])
    for name, array in sorted(alone.features.items()):
        _add(digest, f"features.{name}", array)
    key: Key = digest.digest()
    return key


def _add(digest: Any, name: str, array: Array) -> None:
    array = np.asarray(array)
    digest.update(f"{name}:{array.dtype.str}:{array.shape}:".encode())
    digest.update(repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes())  # objects are strings

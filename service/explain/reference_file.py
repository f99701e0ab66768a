"""The reference set of a bundle, read and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from service.errors import BadBundle
from service.manifest import Input, Manifest

Array = NDArray[Any]


def read(folder: Path, manifest: Manifest) -> dict[str, Array]:
    """The bundle's reference set, (R, ..) by input; nothing where it has none. Raises BadBundle."""
    file = manifest.explain.reference if manifest.explain else None
    if file is None:
        return {}
    try:
        with np.load(folder / file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, BadZipFile, KeyError) as error:
        raise BadBundle(f"{file} can't be read as arrays by input name (.npz): {str(error)[:200]}") from None
    inputs = {entry.name: entry for entry in manifest.inputs}
    if not arrays or (unknown := sorted(set(arrays) - set(inputs))):
        raise BadBundle(f"{file} holds {unknown if arrays else 'nothing'}, expected arrays of the inputs {sorted(inputs)}")
    if len({array.shape[:1] for array in arrays.values()}) != 1 or not all(array.ndim and len(array) for array in arrays.values()):
        raise BadBundle(f"{file}: every input needs the same number of instances, at least one")
    return {name: _checked(array, inputs[name], file) for name, array in arrays.items()}


def _checked(array: Array, entry: Input, file: str) -> Array:
    wanted = np.dtype(object if entry.dtype == "string" else entry.dtype)
    fits = array.ndim == len(entry.shape) + 1 and all(w in (None, g) for w, g in zip(entry.shape, array.shape[1:], strict=True))
    if not fits or not (np.can_cast(array.dtype, wanted) or array.dtype.kind == wanted.kind == "f"):
        shape = ", ".join("any" if size is None else str(size) for size in entry.shape)
        raise BadBundle(f"{file}: input {entry.name!r} is {array.dtype}{list(array.shape)}, expected {entry.dtype} [instances, {shape}]")
    if array.dtype.kind == "f" and not entry.allow_missing and not np.isfinite(array).all():
        raise BadBundle(f"{file}: input {entry.name!r} holds NaN or Infinity")
    return array.astype(wanted)

"""The Open Inference Protocol's wire types: one table, and a tensor's values as JSON or as little-endian bytes.

Specification: kserve/open-inference-protocol `inference_rest.md` and Triton's `extension_binary_data.md`.
"""

from __future__ import annotations

import math
import struct
import sys
from typing import Any

import numpy as np

from service.codecs.numbers import NON_FINITE, Array, exact, parse
from service.errors import BadInput
from service.manifest import Dtype

assert sys.byteorder == "little", "the wire is little-endian and read in place"

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
"""A BYTES tensor is an object array of `bytes`. BF16 is read (as float32, binary only) and never written."""
DATATYPES = {dtype: name for name, dtype in DTYPES.items()}
READABLE = (*DTYPES, "BF16")

_LENGTH = struct.Struct("<I")


def datatype_of(array: Array) -> str:
    """The wire type of an array; object and string arrays are BYTES. Raises TypeError for a dtype the protocol lacks."""
    kind = array.dtype
    if kind.kind in "US":
        return "BYTES"
    try:
        return DATATYPES[kind]
    except KeyError:
        raise TypeError(f"the Open Inference Protocol has no type for {kind}") from None


def datatype_named(dtype: Dtype) -> str:
    """The wire type of a manifest's dtype."""
    return "BYTES" if dtype == "string" else DATATYPES[np.dtype(dtype)]


def decode_binary(blob: memoryview, datatype: str, shape: tuple[int, ...], what: str) -> Array:
    """The array of a tensor's bytes: a read-only view of them, copied where their place in the body isn't aligned.

    Raises BadInput where they aren't exactly product(shape) elements.
    """
    count = math.prod(shape)
    if datatype == "BYTES":
        return _split_elements(blob, count, what).reshape(shape)
    size = 2 if datatype == "BF16" else DTYPES[datatype].itemsize
    if count * size != len(blob):
        raise BadInput(f"{what}: shape {list(shape)} of {datatype} is {count * size} bytes, got {len(blob)}")
    if datatype == "BF16":  # the upper half of a float32
        return (np.frombuffer(blob, np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)
    if datatype == "BOOL":
        octets = np.frombuffer(blob, np.uint8)
        if octets.size and octets.max() > 1:
            raise BadInput(f"{what}: a BOOL byte is {octets.max()}, expected 0 or 1")
        return octets.view(np.bool_).reshape(shape)
    array = np.frombuffer(blob, DTYPES[datatype]).reshape(shape)
    return array if array.flags.aligned else array.copy()


def encode_binary(array: Array) -> bytes | memoryview:
    """A tensor's bytes: row-major, little-endian; of BYTES each element behind its length (uint32). A view, where it can be one."""
    if datatype_of(array) != "BYTES":
        view: memoryview = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        return view
    elements = [_as_bytes(value) for value in array.ravel().tolist()]
    return b"".join(part for element in elements for part in (_LENGTH.pack(len(element)), element))


def decode_json(data: object, datatype: str, shape: tuple[int, ...], what: str) -> Array:
    """The array of a JSON tensor's `data`, flat or nested as `shape` says. Floats may be the strings NaN, Infinity and
    -Infinity, as `encode_json` writes them. Raises BadInput."""
    if datatype == "BF16":
        raise BadInput(f"{what}: BF16 has no JSON form; send it as binary data")
    if not isinstance(data, list):
        raise BadInput(f"{what}: data must be a list, got {type(data).__name__}")
    array = _json_array(data, datatype, what)
    if array.shape == shape:
        return array
    if array.ndim != 1 or array.size != math.prod(shape):
        raise BadInput(
            f"{what}: got data of shape {list(array.shape)}, expected {list(shape)} or {math.prod(shape)} values in one flat list"
        )
    return array.reshape(shape)


def encode_json(array: Array) -> list[Any] | Array:
    """A tensor's `data` for JSON, flat. The array itself where orjson writes it as it is.

    The protocol doesn't say what a NaN is in JSON: Triton writes a bare NaN, which is no JSON; most others null, which
    makes an infinity and a NaN the same. Here they are the strings of protobuf's JSON mapping, "NaN", "Infinity" and
    "-Infinity": valid JSON, nothing lost, and tritonclient's `as_numpy` reads them.
    """
    flat = array.reshape(-1)
    if datatype_of(array) == "BYTES":
        return [_as_text(value) for value in flat.tolist()]
    if array.dtype.kind != "f" or np.isfinite(flat).all():
        return np.ascontiguousarray(flat)
    names = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    return [value if math.isfinite(value) else names[str(value)] for value in flat.tolist()]


def _json_array(data: list[Any], datatype: str, what: str) -> Array:
    dtype = DTYPES[datatype]
    if datatype == "BYTES":
        return _json_strings(data, what)
    array = parse(data, dtype, what)
    if array.dtype.kind == "U" and dtype.kind == "f":
        array = np.array(_named_floats(data, what), np.float64)
    return exact(array, dtype, what)


def _named_floats(data: Any, what: str) -> Any:
    if isinstance(data, list):
        return [_named_floats(value, what) for value in data]
    if isinstance(data, str):
        if data not in NON_FINITE:
            raise BadInput(f"{what}: got the string {data[:40]!r}, expected numbers (or one of {', '.join(NON_FINITE)})")
        return NON_FINITE[data]
    return data


def _json_strings(data: list[Any], what: str) -> Array:
    try:
        array = np.array(data, dtype=np.object_)
    except ValueError:
        raise BadInput(f"{what}: the lists are ragged: every row must have the same length") from None
    flat = array.reshape(-1)
    wrong = next((value for value in flat if not isinstance(value, str)), None)
    if wrong is not None or any(value is None for value in flat):
        raise BadInput(f"{what}: BYTES data must be strings in lists of equal length, got {type(wrong).__name__}")
    try:
        flat[:] = [value.encode() for value in flat]
    except UnicodeEncodeError:
        raise BadInput(f"{what}: a string holds a lone surrogate, which UTF-8 can't carry") from None
    return array


def _split_elements(blob: memoryview, count: int, what: str) -> Array:
    if count * _LENGTH.size > len(blob):
        raise BadInput(f"{what}: {count} BYTES elements need at least {count * _LENGTH.size} bytes, got {len(blob)}")
    array = np.empty(count, np.object_)
    position = 0
    for index in range(count):
        start = position + _LENGTH.size
        if start > len(blob):
            raise BadInput(f"{what}: the bytes end within the length of element {index} of {count}")
        (length,) = _LENGTH.unpack_from(blob, position)
        position = start + length
        if position > len(blob):
            raise BadInput(f"{what}: element {index} says {length} bytes, {len(blob) - start} are left")
        array[index] = bytes(blob[start:position])
    if position != len(blob):
        raise BadInput(f"{what}: {len(blob) - position} bytes are left behind the last of {count} elements")
    return array


def _as_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _as_text(value: object) -> str:
    """JSON strings are text: bytes that aren't UTF-8 have no JSON form."""
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BadInput("an output's bytes aren't UTF-8 text and have no JSON form; ask for binary data (binary_data_output)") from None

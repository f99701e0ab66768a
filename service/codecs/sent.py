"""An instance as JSON carries it: a value, or an object of values by input; encoded values to the bytes they stand for."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from service.errors import BadInput
from service.manifest import Input


def sent_instance(value: Any, inputs: tuple[Input, ...]) -> dict[str, Any]:
    """Values by input. Raises BadInput: an object with other names, base64 that is none."""
    names = {i.name for i in inputs}
    if isinstance(value, dict) and not is_encoded(value) and value.keys() <= names and value:
        return {name: sent_value(part) for name, part in value.items()}
    if len(inputs) > 1:
        unknown = f" with {sorted(value.keys() - names)[0]!r}" if isinstance(value, dict) and value.keys() - names else ""
        raise BadInput(f"an instance of this model is an object with the inputs {sorted(names)}, got {kind_of(value)}{unknown}")
    return {inputs[0].name: sent_value(value)}


def is_encoded(value: Any) -> bool:
    """Whether a value is an encoded picture or sound: `{"b64": ..}`, or `{"data": ..}` with or without a data URL's head."""
    if not isinstance(value, Mapping) or len(value) != 1:
        return False
    return ("b64" in value or "data" in value) and isinstance(next(iter(value.values())), str)


def sent_value(value: Any) -> Any:
    """The bytes of an encoded value; anything else as it is. Raises BadInput."""
    if not is_encoded(value):
        return value
    text = next(iter(value.values()))
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadInput('"b64": not valid base64') from None


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number", type(None): "null"}
    if isinstance(value, list) and not value:
        return "an empty list"
    return names.get(type(value), type(value).__name__)

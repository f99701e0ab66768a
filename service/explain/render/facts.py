"""An explanation's figures in words: captions for pictures, rows for pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.explain.render.sheet import Caption

Fields = Mapping[str, Any]


def heading(prediction: Fields, fields: Fields) -> str:
    """What was predicted and, where it is something else, what was explained."""
    target, said = named_target(fields), _said(prediction)
    if not said:
        return f"What moved {target}" if target else "What moved the output"
    if "value" in prediction or target in ("", str(prediction["label"])):
        return f"Why {said}"
    return f"For and against {target} (predicted: {said})"


def caption(prediction: Fields, methods: Sequence[Fields]) -> Caption:
    """A figure's title and its lines of small print; `methods` are the fields of each method's explanation."""
    if len(methods) > 1:
        names = ", ".join(_words(fields["method"]) for fields in methods)
        return Caption(heading(prediction, methods[0]), (f"{names}, of the {methods[0]['explained']}",))
    errors = [f"{name} {value}" for name, value in figures(methods[0]) if name.endswith("error") and value]
    return Caption(heading(prediction, methods[0]), (how(methods[0]), ", ".join(errors)) if errors else (how(methods[0]),))


def how(fields: Fields) -> str:
    """Method, what was explained and from where, in one line."""
    parts = [_words(fields["method"]), f"of the {fields['explained']}"]
    baseline = fields.get("parameters", {}).get("baseline")
    return " ".join(parts) + (f", baseline {_plain(baseline)}" if baseline is not None else "")


def figures(fields: Fields) -> tuple[tuple[str, str], ...]:
    """Name and value of all that says how far to trust the explanation; empty where there is no such figure."""
    return (
        ("output for this input", _number(fields.get("instance_output"))),
        ("output for the baseline", _number(fields.get("baseline_output"))),
        ("completeness error", _percent(fields.get("completeness_error"))),
        ("parity error", _number(fields.get("parity_error"), 2)),
        ("steps", _number(fields.get("steps"))),
        ("seconds", _number(fields.get("seconds"), 3)),
    )


def facts(methods: Sequence[Fields]) -> tuple[tuple[str, ...], ...]:
    """All rows of a page's table, a name and a value a method; what no method has a value for is left out."""
    rows = [
        ("method", *(how(fields) for fields in methods)),
        ("explained", *(named_target(fields) or "the output" for fields in methods)),
        *((name, *values) for name, values in _by_name([figures(fields) for fields in methods])),
        ("converged", *("yes" if fields.get("converged", True) else "no: see the warning" for fields in methods)),
    ]
    return tuple(row for row in rows if any(row[1:]))


def _by_name(columns: Sequence[tuple[tuple[str, str], ...]]) -> list[tuple[str, list[str]]]:
    return [(cells[0][0], [value for _, value in cells]) for cells in zip(*columns, strict=True)]


def label_of(fields: Fields) -> str:
    """The target's label, which a legend is for and against; empty where it has none."""
    return str((fields.get("target") or {}).get("label", ""))


def named_target(fields: Fields) -> str:
    """The target's label, else its index or region; empty where there is none."""
    target = fields.get("target") or {}
    if "label" in target:
        return str(target["label"])
    return ", ".join(_area(value) if name == "region" else f"{name} {_plain(value)}" for name, value in target.items())


def percentage(value: float, digits: int = 1) -> str:
    """A share in per cent; one that rounds to none or to all, but is neither, is said to be below or above the last step."""
    step = 10.0**-digits
    if value > 0 and value * 100 < step / 2:
        return f"< {step:.{digits}f}%"
    if value < 1 and value * 100 >= 100 - step / 2:
        return f"> {100 - step:.{digits}f}%"
    return f"{value:.{digits}%}"


def _area(region: Sequence[int]) -> str:
    left, top, right, bottom = region
    return f"the pixels from ({left}, {top}) to ({right}, {bottom})"


def _said(prediction: Fields) -> str:
    if "label" in prediction:
        probability = prediction.get("probability")
        return f"{prediction['label']}" if probability is None else f"{prediction['label']} ({percentage(probability)})"
    return f"{_number(prediction['value'])}" if "value" in prediction else ""


def _words(method: Any) -> str:
    return str(method).replace("_", " ")


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = [
            f"{key} {_plain(item)}" if key not in ("kind", "value") else _plain(item) for key, item in value.items() if item is not None
        ]
        return " ".join(inner)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_plain(item) for item in value[:8]) + (", ..." if len(value) > 8 else "") + "]"
    return _number(value)


def _number(value: Any, digits: int = 4) -> str:
    if value is None:
        return ""
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def _percent(value: float | None) -> str:
    return "" if value is None else percentage(value, 2)

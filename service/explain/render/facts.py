"""An explanation's figures in words: captions for pictures, rows for pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.explain.render.image import Caption

Fields = Mapping[str, Any]


def heading(prediction: Fields, fields: Fields) -> str:
    """What was predicted and, where it is something else, what was explained."""
    target, said = named_target(fields), _said(prediction)
    if not said:
        return f"What moved {target}" if target else "What moved the output"
    if "value" in prediction or target in ("", str(prediction["label"])):
        return f"Why {said}"
    return f"For and against {target} (predicted: {said})"


def caption(prediction: Fields, fields: Fields) -> Caption:
    """A figure's title and its two lines of small print."""
    errors = [f"{name} {value}" for name, value in figures(fields) if name.endswith("error")]
    return Caption(heading(prediction, fields), (how(fields), ", ".join(errors)) if errors else (how(fields),))


def how(fields: Fields) -> str:
    """Method, what was explained and from where, in one line."""
    parts = [str(fields["method"]).replace("_", " "), f"of the {fields['explained']}"]
    baseline = fields.get("parameters", {}).get("baseline")
    return " ".join(parts) + (f", baseline {_plain(baseline)}" if baseline is not None else "")


def figures(fields: Fields) -> tuple[tuple[str, str], ...]:
    """Name and value of all that says how far to trust the explanation."""
    rows = [
        ("output for this input", _number(fields.get("instance_output"))),
        ("output for the baseline", _number(fields.get("baseline_output"))),
        ("completeness error", _percent(fields.get("completeness_error"))),
        ("parity error", _number(fields.get("parity_error"), 2)),
        ("steps", _number(fields.get("steps"))),
        ("seconds", _number(fields.get("seconds"), 3)),
    ]
    return tuple((name, value) for name, value in rows if value)


def facts(fields: Fields) -> tuple[tuple[str, str], ...]:
    """All rows of a page's table."""
    verdict = "yes" if fields.get("converged", True) else "no: see the warning"
    return (("method", how(fields)), ("explained", named_target(fields) or "the output"), *figures(fields), ("converged", verdict))


def named_target(fields: Fields) -> str:
    """The target's label, else its index or region; empty where there is none."""
    target = fields.get("target") or {}
    if "label" in target:
        return str(target["label"])
    return ", ".join(_area(value) if name == "region" else f"{name} {_plain(value)}" for name, value in target.items())


def _area(region: Sequence[int]) -> str:
    left, top, right, bottom = region
    return f"the pixels from ({left}, {top}) to ({right}, {bottom})"


def _said(prediction: Fields) -> str:
    if "label" in prediction:
        probability = prediction.get("probability")
        return f"{prediction['label']}" if probability is None else f"{prediction['label']} ({probability:.1%})"
    return f"{_number(prediction['value'])}" if "value" in prediction else ""


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
    return "" if value is None else f"{value:.2%}"

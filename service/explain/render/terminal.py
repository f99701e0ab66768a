"""A V1 `:explain` answer about one instance for a terminal with 24-bit colours: the words coloured, numbers as bars, the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.codecs.text import Token
from service.explain.render.colormap import SIGNED, UNSIGNED, Scale
from service.explain.render.facts import figures, heading, how, label_of
from service.explain.render.text import ansi_legend, clean, painted, render_ansi

_MOST_BARS = 20
_BAR = 24
"""Characters of the longest bar."""


def render_terminal(text: str, answer: Mapping[str, Any]) -> str:
    """`text` is the instance where it is one; empty where the answer isn't about one instance."""
    predictions, explanations = answer.get("predictions") or [], answer.get("explanations") or []
    if len(predictions) != 1 or not explanations:
        return ""
    parts = [clean(heading(predictions[0], explanations[0]))]
    parts += [_explanation(text, explanation) for explanation in explanations]
    parts += [_agreement(each) for each in answer.get("agreement") or []]
    return "\n\n".join(parts)


def _explanation(text: str, explanation: Mapping[str, Any]) -> str:
    colours = SIGNED if explanation.get("signed", True) else UNSIGNED
    known = "  ".join(f"{name} {value}" for name, value in figures(explanation) if value and name.endswith(("error", "seconds")))
    lines = [clean(how(explanation)) + (f"  ({known})" if known else "")]
    lines += [f"warning: {clean(warning)}" for warning in explanation.get("warnings") or []]
    if explanation.get("verdict"):
        lines.append(f"verdict: {clean(explanation['verdict'])}")
    attributions = explanation.get("attributions")
    if attributions is None:
        return "\n".join(lines)
    if isinstance(explanation.get("tokens"), list):
        tokens = [Token(**token) if token else None for token in explanation["tokens"]]
        body = render_ansi(text, tokens, attributions, explanation.get("truncated_at"), colours=colours)
    elif _is_dense(attributions):
        return "\n".join([*lines, "", "--output why.png or why.html draws the attributions, --output why.json writes them"])
    else:
        columns = explanation.get("columns")
        named = zip(columns, attributions, strict=True) if isinstance(columns, list) else _numbered(attributions, "")
        body = _bars(list(named), colours)
    return "\n".join([*lines, "", body, "", ansi_legend(colours, label_of(explanation))])


def _bars(numbers: Sequence[tuple[str, float]], colours: Scale) -> str:
    """The largest of the numbers, each with its name, as bars."""
    ranked = sorted(numbers, key=lambda pair: abs(pair[1]), reverse=True)[:_MOST_BARS]
    longest = max((abs(value) for _, value in ranked), default=0.0) or 1.0
    width = max((len(name) for name, _ in ranked), default=0)
    rows = [
        f"{clean(name):>{width}} {value:>+11.4g} "
        + painted(" " * max(1, round(abs(value) / longest * _BAR)), 0.6 if value >= 0 else -0.6, colours)
        for name, value in ranked
    ]
    more = len(numbers) - len(ranked)
    return "\n".join(rows + ([f"and {more} smaller ones"] if more else []))


def _is_dense(attributions: Any) -> bool:
    """Whether some input is a picture or a sound rather than a few numbers."""
    parts = attributions.values() if isinstance(attributions, Mapping) else [attributions]
    return any(isinstance(part, list) and part and (isinstance(part[0], list) or len(part) > 1000) for part in parts)


def _numbered(value: Any, name: str) -> Sequence[tuple[str, float]]:
    if isinstance(value, Mapping):
        return [pair for key, part in value.items() for pair in _numbered(part, str(key))]
    if isinstance(value, list):
        return [pair for place, part in enumerate(value) for pair in _numbered(part, f"{name}[{place}]")]
    return [(name or "value", float(value or 0.0))]


def _agreement(agreement: Mapping[str, Any]) -> str:
    methods = [str(method).replace("_", " ") for method in agreement["methods"]]
    width = max(map(len, methods))
    rows = [
        f"{method:>{width}} " + "".join("     -" if value is None else f"{value:6.2f}" for value in values)
        for method, values in zip(methods, agreement["spearman"], strict=True)
    ]
    return "\n".join(["rank correlation, each with each:", *rows])

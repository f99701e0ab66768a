"""Model cards: the README of a bundle, in Markdown, every figure from the recipe that measured it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from service.manifest import Manifest, Metric

Section = tuple[str, str]
"""A heading and its Markdown."""


def write_card(manifest: Manifest, sections: Iterable[Section]) -> str:
    """The card of a bundle: what it is, its figures, then the recipe's own sections, then data and origin."""
    parts = [f"# {manifest.title}", manifest.description, "## Figures", metrics_table(manifest.metrics)]
    parts.append(f"Measured and written by `{manifest.provenance.recipe}`, seed {manifest.provenance.seed}.")
    for heading, text in sections:
        parts += [f"## {heading}", text]
    parts += ["## Data", _data(manifest), "## Origin", _origin(manifest)]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def metrics_table(metrics: Sequence[Metric]) -> str:
    rows = [
        (metric.name.replace("_", " "), f"{metric.value:.6g} {metric.unit}".strip(), metric.split, metric.n, metric.note)
        for metric in metrics
    ]
    return table(("figure", "value", "split", "n", "note"), rows)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _data(manifest: Manifest) -> str:
    entries = []
    for data in manifest.data:
        use = " For non-commercial use only." if data.non_commercial else ""
        entries.append(f"{data.name}: {data.source}. Licence: {data.licence}.{use}")
        entries.append(table(("file", "sha256"), [(file, f"`{digest}`") for file, digest in data.sha256.items()]))
    return "\n\n".join(entries)


def _origin(manifest: Manifest) -> str:
    origin = manifest.provenance
    facts: list[tuple[str, object]] = [("parameters", f"{origin.parameters:,}" if origin.parameters else "-")]
    if origin.multiply_adds:
        facts.append(("multiply-adds for one row", f"{origin.multiply_adds:,}"))
    facts += [*origin.hyperparameters.items(), *origin.versions.items()]
    return table(("what", "value"), facts) + f"\n\nLicence of the weights: {manifest.licence}."

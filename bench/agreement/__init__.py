"""Agreement with Captum: our attributions on exported graphs against Captum's on the torch modules they were exported from.

The reference is Captum (0.9) on the module, one instance at a time; where PyTorch's exporter folds BatchNormalization into the
convolution before it, on the module folded likewise. DeepLIFT is compared with Captum on a module that keeps two adjacent
non-linear layers apart: on one tensor between them Captum's own attributions don't add up, which the last line measures.
Sampled methods share Captum's draws.
"""

from __future__ import annotations

from bench.agreement.measure import LIMIT, Measured, captum_alone, measure
from bench.agreement.networks import NETWORKS
from bench.table import markdown

COUNT = 100


def report(count: int = COUNT) -> str:
    """The table of every method on every network, and why some are refused."""
    columns = {name: {m.method: m for m in measure(network, count)} for name, network in NETWORKS.items()}
    methods = list(next(iter(columns.values())))
    rows = [(method, *(_cell(column[method]) for column in columns.values())) for method in methods]
    reasons = sorted({f"{name}, {m.method}: {m.refused}" for name, column in columns.items() for m in column.values() if m.refused})
    theirs, ours = captum_alone(NETWORKS["CNN"], count)
    return "\n".join(
        (
            f"Instances of {count} within {LIMIT:g} relative L2, and the largest distance; dynamo exporter\n",
            markdown(("method", *columns), rows),
            "\nRefused:\n",
            *(f"- {reason}" for reason in reasons),
            "\nCNN, DeepLIFT SHAP where ReLU and MaxPool share a tensor, median relative completeness error: "
            f"Captum {theirs:.2g}, ours {ours:.2g}",
        )
    )


def _cell(measured: Measured) -> str:
    if measured.refused:
        return "refused"
    return f"{measured.within} ({max(measured.distances):.1g})"

"""What the two wine recipes share: rows, one run, and the bundle. See `wine_perceptron` and `wine_mlp`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from service.manifest import Baseline, Batching, Column, Explain, Golden, Input, Manifest, Output, Provenance, TablePolicy
from training.batches import Batch, Rows, loader
from training.bundle import multiply_adds, parameter_count, versions, write_bundle
from training.card import Section, table, write_card
from training.datasets import WINE, Table, Wine
from training.evaluate import Figures, measure
from training.export import Graph, tiled, to_onnx
from training.fit import Fitted, Run, fit
from training.golden import classifications, json_case
from training.reference import wines
from training.session import Session, hyperparameters
from training.supervised import Optimisation, Supervised

LABELS = ("plain", "good", "very good")
"""Tasters' grades 3 to 5, 6, and 7 to 9."""

CURVES = "curves.png"

UNITS = {
    "fixed acidity": "g/L tartaric acid",
    "volatile acidity": "g/L acetic acid",
    "citric acid": "g/L",
    "residual sugar": "g/L",
    "chlorides": "g/L sodium chloride",
    "free sulfur dioxide": "mg/L",
    "total sulfur dioxide": "mg/L",
    "density": "g/cm³",
    "pH": "",
    "sulphates": "g/L potassium sulphate",
    "alcohol": "% vol",
}
"""As in table 1 of Cortez et al. 2009."""


@dataclass(frozen=True)
class Training:
    """The options of one run that the two recipes share."""

    epochs: int
    batch_size: int
    optimisation: Optimisation
    patience: int | None = None


@dataclass(frozen=True)
class Bundle:
    """What a finished training hands to the export."""

    name: str
    title: str
    description: str
    net: nn.Module
    config: Any
    session: Session
    fitted: Fitted[Supervised]
    data: Wine
    validation: Figures
    test: Figures
    sections: Sequence[Section]
    plots: Mapping[str, Path]


def batches(rows: Table, size: int = 1000, shuffle_seed: int | None = None) -> DataLoader[Batch]:
    return loader(Rows(torch.from_numpy(rows.values), torch.from_numpy(rows.labels)), size, shuffle_seed=shuffle_seed)


def fit_wine(net: nn.Module, data: Wine, training: Training, run: Run) -> Fitted[Supervised]:
    """The fitted task, with the weights of the epoch of lowest validation loss. The network must be built after `start(run)`."""
    task = Supervised(net, len(LABELS), training.optimisation)
    return fit(task, batches(data.train, training.batch_size, run.seed), batches(data.validation), run)


def measured(net: nn.Module, rows: Table, split: str) -> Figures:
    return measure(net, batches(rows), len(LABELS), split)


def export(bundle: Bundle) -> Path:
    """Writes the bundle; returns its folder."""
    axes = {"row": {0: "batch"}}
    rows = torch.from_numpy(bundle.data.test.values[:8])
    model = to_onnx(Graph(bundle.net, axes, ("logits",), tiled(rows, axes=axes)))
    plots = {CURVES: bundle.fitted.run.path / CURVES, **bundle.plots}
    return write_bundle(
        bundle.session.out,
        model,
        partial(describe, bundle),
        golden(bundle.net, bundle.data.test),
        partial(card, bundle),
        plots=plots,
        reference=wines(bundle.data.train),
    )


def golden(net: nn.Module, rows: Table) -> Golden:
    """Wines of the test rows, as lists and as objects by column name."""
    values = [[round(float(value), 5) for value in row] for row in rows.values[:4]]
    with torch.inference_mode():
        answers = classifications(net.eval()(torch.tensor(values)), LABELS)
    by_name = [dict(zip(rows.columns, row, strict=True)) for row in values[2:]]
    return Golden(cases=(json_case(values[:2], answers[:2]), json_case(by_name, answers[2:])))


def columns(rows: Table) -> tuple[Column, ...]:
    """The manifest's columns, with the facts of the training rows."""

    def short(value: Tensor) -> float:
        return float(f"{float(value):.6g}")

    values = torch.from_numpy(rows.values)
    return tuple(
        Column(
            name=name,
            unit=UNITS[name],
            mean=short(column.mean()),
            std=short(column.std()),
            minimum=short(column.min()),
            maximum=short(column.max()),
        )
        for name, column in zip(rows.columns, values.unbind(1), strict=True)
    )


def describe(bundle: Bundle, files: dict[str, str]) -> Manifest:
    """The manifest, from the hashes of the bundle's files."""
    features = len(bundle.data.train.columns)
    return Manifest(
        name=bundle.name,
        version=1,
        title=bundle.title,
        description=bundle.description,
        task="classification",
        licence="Apache-2.0",
        inputs=(
            Input(name="row", codec="table", dtype="float32", shape=(features,), table=TablePolicy(columns=columns(bundle.data.train))),
        ),
        outputs=(Output(name="logits", kind="classes", dtype="float32", shape=(len(LABELS),), labels=LABELS, activation="softmax"),),
        batching=Batching(max=256),
        explain=Explain(output="logit", baseline={"row": Baseline(kind="mean")}),
        metrics=(*bundle.test.metrics(bundle.session.seed), *bundle.validation.metrics(bundle.session.seed)),
        data=(WINE.manifest_entry(),),
        provenance=Provenance(
            recipe=f"whyserve train {bundle.name}",
            seed=bundle.session.seed,
            versions=versions(),
            parameters=parameter_count(bundle.net),
            multiply_adds=multiply_adds(bundle.net, torch.zeros(1, features)),
            hyperparameters=hyperparameters(bundle.config) | {"epoch_chosen": bundle.fitted.epoch + 1},
        ),
        files=files,
    )


def card(bundle: Bundle, manifest: Manifest) -> str:
    """The model card: the sections of the recipe between what both networks share."""
    sizes = ", ".join(
        f"{len(rows)} {split}"
        for rows, split in ((bundle.data.train, "to train"), (bundle.data.validation, "validation"), (bundle.data.test, "test"))
    )
    confusion = [(f"**{label}**", *row) for label, row in zip(LABELS, bundle.test.confusion.tolist(), strict=True)]
    majority = max(torch.from_numpy(bundle.data.test.labels).bincount().tolist()) / len(bundle.data.test)
    error = (bundle.test.accuracy * (1 - bundle.test.accuracy) / bundle.test.n) ** 0.5
    task = (
        "Eleven laboratory figures of a white vinho verde in their own units; standardising is part of the graph. Labels: plain "
        f"(tasters' grade 3 to 5), good (6), very good (7 to 9). Repeated rows were dropped before splitting ({sizes}). Always saying the "
        f"commonest label would be right in {majority:.1%} of the test wines; an accuracy "
        f"measured on {len(bundle.data.test)} wines has a standard error of {error:.1%}. An explanation starts from the average wine."
    )
    return write_card(
        manifest,
        [
            ("What it is told", task),
            *bundle.sections,
            ("Confusion on the test wines", "Row: the true label; column: the label said.\n\n" + table(("", *LABELS), confusion)),
            (
                "Where it fails",
                "Taste is only partly in these eleven figures, and grades are the median of three tasters' votes: neighbouring labels "
                "are often confused. Wines of other kinds, or figures in other units, are outside of what it was trained on.",
            ),
        ],
    )

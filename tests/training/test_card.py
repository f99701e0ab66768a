"""Model cards: nothing that the manifest knows is left out."""

from __future__ import annotations

from service.manifest import Data, Input, Manifest, Metric, Output, Provenance
from training.card import table, write_card

MANIFEST = Manifest(
    name="toy",
    version=1,
    title="A toy",
    description="Says yes.",
    task="regression",
    licence="Apache-2.0",
    inputs=(Input(name="x", codec="tensor", dtype="float32", shape=(1,)),),
    outputs=(Output(name="y", kind="value", dtype="float32", shape=(1,)),),
    metrics=(Metric(name="mean_error", value=0.25, split="test", n=40, seed=3, unit="m"),),
    data=(Data(name="Set", source="there", licence="research only", non_commercial=True, sha256={"a.csv": "0" * 64}),),
    provenance=Provenance(
        recipe="whyserve train toy", seed=3, parameters=1234, multiply_adds=5678, versions={"torch": "2"}, hyperparameters={"depth": 2}
    ),
    files={"model.onnx": "1" * 64},
)


def test_the_card_states_figures_data_and_origin():
    card = write_card(MANIFEST, [("How", "By hand.")])
    assert card.startswith("# A toy\n\nSays yes.\n")
    for expected in (
        "| mean error | 0.25 m | test | 40 |",
        "`whyserve train toy`, seed 3",
        "## How\n\nBy hand.",
        "research only. For non-commercial use only.",
        f"| a.csv | `{'0' * 64}` |",
        "| parameters | 1,234 |",
        "| multiply-adds for one row | 5,678 |",
        "| depth | 2 |",
        "| torch | 2 |",
        "Licence of the weights: Apache-2.0.",
    ):
        assert expected in card


def test_a_table_has_one_line_a_row():
    assert table(("a", "b"), [(1, 2), ("x", "y")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n| x | y |"

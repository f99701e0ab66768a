"""Typical instances as rows that models take: the graphs themselves say whether they do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.explain.loading import load
from service.explain.reference_file import read
from service.explain.typical import typical_rows
from service.manifest import Manifest
from service.repository.bundle import Location, read_bundle

MODELS = Path("models")


@pytest.mark.parametrize("name", ["mnist-cnn", "sst2-gru", "wine-mlp", "fsdd-cnn"])
def test_a_model_with_a_reference_set_has_a_course(name) -> None:
    subject = load(read_bundle(Location(name, 1, MODELS / name / "1")))
    (row, *_) = typical_rows(subject.manifest, subject.reference, 2)
    assert set(row) == {info.name for info in subject.served.inputs}
    assert all(len(output) == 1 for output in subject.served.run(row).values())
    assert subject.course is not None


def test_a_text_loses_its_padding_and_says_how_long_it_is() -> None:
    folder = MODELS / "sst2-gru" / "1"
    manifest = Manifest.read(folder)
    reference = read(folder, manifest)
    rows = list(typical_rows(manifest, reference, 100))
    assert len(rows) == len(reference["tokens"])
    for row, ids in zip(rows, reference["tokens"], strict=True):
        assert row["lengths"].tolist() == [row["tokens"].shape[1]]
        np.testing.assert_array_equal(np.trim_zeros(ids, "b"), row["tokens"][0])  # the manifest's padding is 0


def test_without_a_reference_set_there_are_none() -> None:
    assert list(typical_rows(Manifest.read(MODELS / "sst2-gru" / "1"), {}, 4)) == []

"""Datasets: what is parsed, what is refused, and that the splits are what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training import datasets
from training.downloads import DatasetError


def test_idx_bytes_become_the_array_they_describe():
    content = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 255])
    np.testing.assert_array_equal(datasets.parse_idx(content), np.array([[1, 2, 3], [4, 5, 255]], np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x1f\x8b\x08\x00", "starts with 1f 8b 08 00"),
        (bytes([0, 0, 8, 3, 0, 0]), "rank 3 has 16 bytes, the file has 6"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 4, 1, 2]), "has 12 bytes, this one has 10"),
        (b"", "not an IDX file"),
    ],
)
def test_a_broken_idx_file_is_refused_with_the_reason(content, message):
    with pytest.raises(DatasetError, match=message):
        datasets.parse_idx(content)


def test_sentences_are_split_at_the_last_tab():
    sentences = datasets.parse_sentences("a\tfine film\t1\ndull\t0", "toy.tsv")
    assert sentences.texts == ("a\tfine film", "dull")
    assert sentences.labels.tolist() == [1, 0]


def test_a_sentence_without_label_names_its_line():
    with pytest.raises(DatasetError, match=r"toy.tsv, line 2"):
        datasets.parse_sentences("fine\t1\ndull\n", "toy.tsv")


@pytest.mark.parametrize("content", ["a,b\n1,2.5\n3,4\n", '"a";"b"\n1;2.5\n3;4.0\n'])
def test_tables_with_commas_and_semicolons_hold_the_same_numbers(content):
    columns, numbers = datasets.parse_table(content, "toy.csv")
    assert columns == ("a", "b")
    assert numbers.tolist() == [[1.0, 2.5], [3.0, 4.0]]


@pytest.mark.parametrize(("content", "message"), [("a,b\n1,x\n", "line 2"), ("a,b\n1,2\n1\n", "line 3: 1 cells"), ("", "no rows")])
def test_a_broken_table_is_refused_with_the_reason(content, message):
    with pytest.raises(DatasetError, match=message):
        datasets.parse_table(content, "toy.csv")


def test_a_tables_hash_is_of_its_rows_in_any_order():
    rows = np.array([[1.0, 2.0], [0.10000000001, 3.0]])
    assert datasets.table_sha256(rows) == datasets.table_sha256(np.array([[0.1, 3.0], [1.0, 2.0]]))
    assert datasets.table_sha256(rows) != datasets.table_sha256(np.array([[0.1, 3.0], [1.0, 2.1]]))


def test_another_table_in_the_wines_place_is_refused(tmp_path: Path):
    (tmp_path / "tabular").mkdir()
    (tmp_path / "tabular" / "winequality-white.csv").write_text("a,quality\n1,5\n")
    with pytest.raises(DatasetError, match=r"winequality-white.csv isn't the table"):
        datasets.load_wine(tmp_path)


def test_mnist_is_split_as_documented(data_folder: Path):
    mnist = datasets.load_mnist(data_folder)
    assert (len(mnist.train), len(mnist.validation), len(mnist.test)) == (55_000, 5_000, 10_000)
    # LeCun's counts a class, of the training set as published.
    counts = np.bincount(mnist.train.labels) + np.bincount(mnist.validation.labels)
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(mnist.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_sst2_is_split_as_documented(data_folder: Path):
    sst2 = datasets.load_sst2(data_folder)
    assert (len(sst2.train), len(sst2.validation), len(sst2.test)) == (6_920, 872, 1_821)


def test_no_test_wine_stands_among_the_training_wines(data_folder: Path):
    wine = datasets.load_wine(data_folder)
    rows = [tuple(row) for part in (wine.train, wine.validation, wine.test) for row in part.values.tolist()]
    assert len(rows) == 4898 - 937
    assert len(set(rows)) == len(rows)

"""Public datasets as arrays, split the same way every time.

Nothing here depends on a network's needs: images stay uint8, sentences stay text, table values stay numbers.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.downloads import DataFile, DatasetError, Source, ensure

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
SST2_URL = "https://raw.githubusercontent.com/clairett/pytorch-sentiment-classification/457ffd83de90a9d6d472d8ffc31bbffe40a8b236/data/SST2/"
WINE_URL = "https://archive.ics.uci.edu/ml/machine-learning-databases/wine-quality/"

SPLIT_SEED = 0
"""Of the splits drawn here. Not the training seed: reruns with other seeds must see the same validation and test rows."""


MNIST = Source(
    name="MNIST",
    origin="LeCun, Cortes, Burges: The MNIST database of handwritten digits, " + MNIST_URL,
    licence="freely redistributable (LeCun, Cortes, Burges; derived from NIST SD 3 and 7)",
    files=tuple(
        DataFile(f"mnist/{name}", MNIST_URL + name, sha256)
        for name, sha256 in (
            ("train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            ("train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            ("t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            ("t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        )
    ),
)

SST2 = Source(
    name="SST-2",
    origin="Stanford Sentiment Treebank (Socher et al. 2013), binary full sentences, " + SST2_URL,
    licence="not stated by the source; distributed for research by the Stanford NLP group",
    files=tuple(
        DataFile(f"sst2/{name}", SST2_URL + name, sha256)
        for name, sha256 in (
            ("train.tsv", "ec192f833a64da08f475488a77b0d0b47db47acd0f458bd18433fc793b569920"),
            ("dev.tsv", "eddea6b39e601dd4e7a672b53cc40fdf6019fa80522f351206c24340ca5d9359"),
            ("test.tsv", "831169c7e2e429d6026e1bdbb542f33b636e3e596caad9602ebc953c205928b7"),
        )
    ),
)


WINE = Source(
    name="Wine Quality, white",
    origin="Cortez, Cerdeira, Almeida, Matos, Reis 2009, UCI Machine Learning Repository 186, " + WINE_URL,
    licence="CC BY 4.0",
    files=(DataFile("tabular/winequality-white.csv", WINE_URL + "winequality-white.csv", None),),
    content_sha256="eb4e791d315602dfdcaba038b520c11620ee33b00b0be03bc01d26cdcdb3e65a",
)
"""`content_sha256` is of the numbers, see `table_sha256`: copies differ in separator, quotes and digits written."""


@dataclass(frozen=True)
class Images:
    """Grey images with their classes: `pixels` uint8 (N, 28, 28), light ink on black; `labels` int64 (N,)."""

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.int64]) -> Images:
        return Images(self.pixels[rows], self.labels[rows])


@dataclass(frozen=True)
class Mnist:
    """MNIST: 55,000 training images, 5,000 held out of the training set for validation, the 10,000 test images."""

    train: Images
    validation: Images
    test: Images


@dataclass(frozen=True)
class Sentences:
    """Sentences with their classes: `texts` as tokenised by the Penn Treebank's rules, lower case; `labels` int64 (N,)."""

    texts: tuple[str, ...]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Sst2:
    """SST-2, full sentences: 6,920 to train, 872 for validation (the public dev set), 1,821 test; 0 negative, 1 positive."""

    train: Sentences
    validation: Sentences
    test: Sentences


@dataclass(frozen=True)
class Table:
    """Rows of numbers with their classes: `values` float32 (N, columns), `labels` int64 (N,)."""

    columns: tuple[str, ...]
    values: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.int64]) -> Table:
        return Table(self.columns, self.values[rows], self.labels[rows])


@dataclass(frozen=True)
class Wine:
    """White wines, 11 laboratory figures each, labelled 0 (tasters' grade 3 to 5), 1 (6) or 2 (7 to 9).

    The 937 rows that repeat another one are dropped before splitting 60:20:20; left in, a fifth of the test wines would
    stand among the training wines.
    """

    train: Table
    validation: Table
    test: Table


def load_mnist(root: Path | None = None) -> Mnist:
    """MNIST from `root` (default: the data folder), downloaded if absent. Raises DatasetError."""
    train_images, train_labels, test_images, test_labels = (_read_gzip(path) for path in ensure(MNIST, root))
    everything = Images(parse_idx(train_images), parse_idx(train_labels).astype(np.int64))
    order = np.random.default_rng(SPLIT_SEED).permutation(len(everything))
    return Mnist(
        train=everything.take(np.sort(order[5000:])),
        validation=everything.take(np.sort(order[:5000])),
        test=Images(parse_idx(test_images), parse_idx(test_labels).astype(np.int64)),
    )


def load_sst2(root: Path | None = None) -> Sst2:
    """SST-2 from `root` (default: the data folder), downloaded if absent. Raises DatasetError."""
    train, dev, test = (parse_sentences(path.read_text("utf-8"), path.name) for path in ensure(SST2, root))
    return Sst2(train=train, validation=dev, test=test)


def load_wine(root: Path | None = None) -> Wine:
    """White wine quality from `root` (default: the data folder), downloaded if absent. Raises DatasetError."""
    (path,) = ensure(WINE, root)
    columns, numbers = parse_table(path.read_text("utf-8"), path.name)
    found = table_sha256(numbers)
    if found != WINE.content_sha256:
        raise DatasetError(f"{path} isn't the table that was measured: sha256 of its numbers {found}, expected {WINE.content_sha256}")
    unique = np.unique(numbers, axis=0)  # sorted, too: the split doesn't depend on the order in the file
    wines = Table(columns[:-1], unique[:, :-1].astype(np.float32), np.digitize(unique[:, -1], [6, 7]).astype(np.int64))
    order = np.random.default_rng(SPLIT_SEED).permutation(len(wines))
    fifth = len(wines) // 5
    test, validation, train = np.split(order, [fifth, 2 * fifth])
    return Wine(train=wines.take(train), validation=wines.take(validation), test=wines.take(test))


def parse_table(content: str, name: str) -> tuple[tuple[str, ...], npt.NDArray[np.float64]]:
    """Column names and numbers (N, columns) of a CSV file with one header row, separated by commas or semicolons.

    Raises DatasetError naming the line that doesn't fit.
    """
    lines = content.splitlines()
    reader = csv.reader(lines, delimiter=";" if lines and ";" in lines[0] else ",")
    columns = tuple(next(reader, ()))
    rows = []
    for number, cells in enumerate(reader, start=2):
        try:
            rows.append([float(cell) for cell in cells])
        except ValueError as error:
            raise DatasetError(f"{name}, line {number}: {error}") from error
        if len(cells) != len(columns):
            raise DatasetError(f"{name}, line {number}: {len(cells)} cells, the header has {len(columns)}")
    if not rows:
        raise DatasetError(f"{name}: no rows")
    return columns, np.array(rows)


def table_sha256(numbers: npt.NDArray[np.float64]) -> str:
    """Of a table's content: numbers to five decimals as little-endian int64, rows in sorted order."""
    whole = np.rint(numbers * 1e5).astype("<i8")
    return hashlib.sha256(whole[np.lexsort(whole.T[::-1])].tobytes()).hexdigest()


def parse_idx(content: bytes) -> npt.NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes (LeCun's format: 0, 0, type 8, rank, big-endian sizes, then the data).

    Raises DatasetError where the header or the length is wrong.
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DatasetError(f"not an IDX file of unsigned bytes: it starts with {content[:4].hex(' ')}, expected 00 00 08 and the rank")
    rank = content[3]
    start = 4 + 4 * rank
    if len(content) < start:
        raise DatasetError(f"an IDX header of rank {rank} has {start} bytes, the file has {len(content)}")
    shape = tuple(int.from_bytes(content[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(rank))
    expected = start + int(np.prod(shape))
    if len(content) != expected:
        raise DatasetError(f"an IDX file of shape {shape} has {expected} bytes, this one has {len(content)}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def parse_sentences(content: str, name: str) -> Sentences:
    """Sentences of a TSV file without header, `sentence<TAB>0|1` a line. Raises DatasetError naming the line."""
    texts, labels = [], []
    for number, line in enumerate(content.splitlines(), start=1):
        text, tab, label = line.rpartition("\t")
        if not tab or not text.strip() or label not in ("0", "1"):
            raise DatasetError(f"{name}, line {number}: expected a sentence, a tab and 0 or 1, got {line[:80]!r}")
        texts.append(text)
        labels.append(int(label))
    return Sentences(tuple(texts), np.array(labels, np.int64))


def _read_gzip(path: Path) -> bytes:
    with gzip.open(path) as file:
        return file.read()

"""FSDD, spoken digits: recordings as samples, split as its authors split them."""

from __future__ import annotations

import hashlib
import re
import tarfile
import wave
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.downloads import DataFile, DatasetError, Source, ensure

RATE = 8000
"""Samples a second of every recording."""
_COMMIT = "26eb9aaf76e81b692f806f9140c2d2777410d7a1"
FSDD_URL = f"https://github.com/Jakobovski/free-spoken-digit-dataset/archive/{_COMMIT}.tar.gz"

FSDD = Source(
    name="Free Spoken Digit Dataset",
    origin="Jackson, Souza, Flaks, Pan, Nicolas, Thite: Free Spoken Digit Dataset, " + FSDD_URL,
    licence="CC BY-SA 4.0",
    files=(DataFile("fsdd/recordings.tar.gz", FSDD_URL, None),),
    content_sha256="6b1a8e30f4df78a933fe25cf1ca0140c8c6f169c0a83649a15b70a5ae7407014",
)
"""`content_sha256` is of the recordings, see `recordings_sha256`: archives of them differ in packing."""

_TEST_TAKES = range(5)
"""The official test split: the first five of a speaker's fifty recordings of a digit."""
_VALIDATION_TAKES = range(5, 10)
_NAME = re.compile(r"(?:^|/)recordings/(?P<file>(?P<digit>\d)_(?P<speaker>[a-z]+)_(?P<take>\d+)\.wav)$")


@dataclass(frozen=True)
class Recording:
    """One spoken digit: `samples` int16 (length,) at 8 kHz, mono; `take` counts a speaker's recordings of that digit."""

    digit: int
    speaker: str
    take: int
    samples: npt.NDArray[np.int16]

    @property
    def name(self) -> str:
        return f"{self.digit}_{self.speaker}_{self.take}.wav"


@dataclass(frozen=True)
class SpokenDigits:
    """FSDD: 2,400 recordings to train, 300 held out of the training set for validation, the official 300 of the test.

    All six speakers are in all three parts, five recordings a digit and speaker in each of the last two.
    """

    train: tuple[Recording, ...]
    validation: tuple[Recording, ...]
    test: tuple[Recording, ...]


def load_fsdd(root: Path | None = None) -> SpokenDigits:
    """FSDD from `root` (default: the data folder), downloaded if absent. Raises DatasetError."""
    (path,) = ensure(FSDD, root)
    files = read_archive(path)
    found = recordings_sha256(files)
    if found != FSDD.content_sha256:
        raise DatasetError(f"{path} doesn't hold the recordings that were measured: sha256 {found}, expected {FSDD.content_sha256}")
    return split(tuple(_parsed(files)))


def padded(recordings: Sequence[Recording], length: int) -> npt.NDArray[np.float32]:
    """Samples (N, length), -1 to 1. Longer recordings are cut, shorter ones padded with silence."""
    rows = np.zeros((len(recordings), length), np.float32)
    for row, recording in zip(rows, recordings, strict=True):
        kept = recording.samples[:length]
        row[: len(kept)] = kept / np.float32(32768)
    return rows


def read_archive(path: Path) -> dict[str, bytes]:
    """The files of the archive's folder `recordings`, by name. Raises DatasetError where it is no archive."""
    try:
        with tarfile.open(path) as archive:
            members = ((_NAME.search(member.name), archive.extractfile(member)) for member in archive)
            return {name["file"]: file.read() for name, file in members if name and file}
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DatasetError(f"{path} is no whole .tar.gz archive: {error}") from error


def recordings_sha256(files: Mapping[str, bytes]) -> str:
    """Of the files' names and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + files[name])
    return digest.hexdigest()


def split(recordings: tuple[Recording, ...]) -> SpokenDigits:
    """By the number of the take, as the dataset's authors have it."""
    return SpokenDigits(
        train=tuple(r for r in recordings if r.take not in _TEST_TAKES and r.take not in _VALIDATION_TAKES),
        validation=tuple(r for r in recordings if r.take in _VALIDATION_TAKES),
        test=tuple(r for r in recordings if r.take in _TEST_TAKES),
    )


def parse_wav(content: bytes, name: str) -> npt.NDArray[np.int16]:
    """The samples (length,) of a mono 16-bit PCM file at 8 kHz. Raises DatasetError naming the file."""
    try:
        with wave.open(BytesIO(content)) as file:
            kind = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            frames = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise DatasetError(f"{name}: {error}") from error
    if kind != (1, 2, RATE):
        raise DatasetError(f"{name}: channels, bytes a sample and rate are {kind}, expected {(1, 2, RATE)}")
    return np.frombuffer(frames, "<i2").astype(np.int16)


def _parsed(files: Mapping[str, bytes]) -> Iterator[Recording]:
    for file in sorted(files):
        parts = _NAME.search(f"recordings/{file}")
        assert parts is not None  # `read_archive` keeps no other names
        yield Recording(int(parts["digit"]), parts["speaker"], int(parts["take"]), parse_wav(files[file], file))

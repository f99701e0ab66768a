"""Spoken digits: what an archive must hold, how it is split, and what is refused."""

from __future__ import annotations

import io
import tarfile
import wave
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from training import recordings
from training.downloads import DatasetError
from training.recordings import Recording, parse_wav, read_archive, recordings_sha256, split


def wav(samples: list[int], rate: int = 8000, channels: int = 1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((channels, 2, rate, len(samples), "NONE", ""))
        out.writeframes(np.array(samples, "<i2").tobytes())
    return file.getvalue()


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as out:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    return path


def test_samples_are_read_as_they_are():
    assert parse_wav(wav([0, -32768, 32767, 5]), "x.wav").tolist() == [0, -32768, 32767, 5]


@pytest.mark.parametrize(
    ("content", "words"),
    [(wav([1, 2], rate=16_000), "x.wav: channels, bytes a sample and rate"), (wav([1, 2], channels=2), "x.wav"), (b"RIFF", "x.wav")],
)
def test_another_kind_of_sound_is_refused_by_name(content: bytes, words: str):
    with pytest.raises(DatasetError, match=words):
        parse_wav(content, "x.wav")


def test_an_archive_is_the_same_in_whatever_folder_and_order(tmp_path: Path):
    files = {"0_theo_1.wav": wav([1]), "7_george_12.wav": wav([2])}
    public = {f"free-spoken-digit-dataset-26eb9a/recordings/{name}": files[name] for name in reversed(files)}
    ours = archive(tmp_path / "a.tar.gz", {f"recordings/{name}": content for name, content in files.items()})
    theirs = archive(tmp_path / "b.tar.gz", public | {"free-spoken-digit-dataset-26eb9a/README.md": b"no sound"})
    assert read_archive(ours) == read_archive(theirs) == files
    assert recordings_sha256(read_archive(ours)) == recordings_sha256(read_archive(theirs))
    assert recordings_sha256(files) != recordings_sha256(files | {"0_theo_1.wav": wav([3])})


def test_what_is_no_archive_or_another_one_is_refused(tmp_path: Path):
    (tmp_path / "fsdd").mkdir()
    place = tmp_path / "fsdd" / "recordings.tar.gz"
    place.write_bytes(b"an error page")
    with pytest.raises(DatasetError, match="no whole"):
        recordings.load_fsdd(tmp_path)
    archive(place, {"recordings/0_theo_1.wav": wav([1])})
    with pytest.raises(DatasetError, match="doesn't hold the recordings that were measured"):
        recordings.load_fsdd(tmp_path)


def test_the_first_five_takes_are_the_test():
    parts = split(tuple(Recording(3, "theo", take, np.zeros(1, np.int16)) for take in range(50)))
    assert [r.take for r in parts.test] == [0, 1, 2, 3, 4]
    assert [r.take for r in parts.validation] == [5, 6, 7, 8, 9]
    assert [r.take for r in parts.train] == list(range(10, 50))


def test_fsdd_is_split_as_documented(data_folder: Path):
    data = recordings.load_fsdd(data_folder)
    assert (len(data.train), len(data.validation), len(data.test)) == (2400, 300, 300)
    for part, count in ((data.train, 40), (data.validation, 5), (data.test, 5)):
        assert set(Counter((r.digit, r.speaker) for r in part).values()) == {count}
    assert {r.speaker for r in data.test} == {"george", "jackson", "lucas", "nicolas", "theo", "yweweler"}

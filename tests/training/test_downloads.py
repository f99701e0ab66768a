"""Dataset files: what is downloaded, and that nothing but the file measured is taken for it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from training.downloads import DataFile, DatasetError, Source, ensure

CONTENT = b"seven,1\n"


def source(url: str, sha256: str | None = hashlib.sha256(CONTENT).hexdigest()) -> Source:
    return Source("toy", "here", "none", (DataFile("toy/file.csv", url, sha256),))


def test_a_wrong_checksum_names_the_file_and_both_hashes(tmp_path: Path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "file.csv").write_bytes(b"eight,1\n")
    with pytest.raises(DatasetError) as caught:
        ensure(source("file:///nowhere"), tmp_path)
    for expected in ("file.csv", hashlib.sha256(b"eight,1\n").hexdigest(), hashlib.sha256(CONTENT).hexdigest()):
        assert expected in str(caught.value)


def test_an_absent_file_is_downloaded_once(tmp_path: Path):
    public = tmp_path / "public.csv"
    public.write_bytes(CONTENT)
    (path,) = ensure(source(public.as_uri()), tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    public.unlink()
    assert ensure(source(public.as_uri()), tmp_path / "cache") == [path]


def test_a_download_that_is_another_file_leaves_nothing_behind(tmp_path: Path):
    public = tmp_path / "public.csv"
    public.write_bytes(b"an error page")
    with pytest.raises(DatasetError, match=hashlib.sha256(CONTENT).hexdigest()):
        ensure(source(public.as_uri()), tmp_path / "cache")
    assert list((tmp_path / "cache" / "toy").iterdir()) == []


def test_an_unreachable_source_says_where_it_looked(tmp_path: Path):
    with pytest.raises(DatasetError, match=r"toy/file.csv: not in the data folder .* can't be fetched"):
        ensure(source((tmp_path / "absent").as_uri()), tmp_path / "cache")

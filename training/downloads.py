"""Files of public datasets: found in WHYSERVE_DATA or downloaded once, and checked by sha256 each time they are used."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from service.manifest import Data, sha256_of

CHECKOUT_DATA = Path(__file__).resolve().parents[1] / "data"
"""Where downloads go when WHYSERVE_DATA is not set; ignored by git."""


class DatasetError(Exception):
    """A dataset is absent, can't be downloaded, or isn't the one that the recipes were measured on."""


@dataclass(frozen=True)
class DataFile:
    """One file of a dataset: its path below the data folder, its public source and the sha256 of its bytes.

    `sha256` is None where the public file and repacked copies of it differ in form only; the loader then checks the
    decoded content (`Source.content_sha256`).
    """

    path: str
    url: str
    sha256: str | None


@dataclass(frozen=True)
class Source:
    """A public dataset: where its files come from and under which licence."""

    name: str
    origin: str
    licence: str
    files: tuple[DataFile, ...]
    content_sha256: str | None = None

    def manifest_entry(self) -> Data:
        """What a bundle's manifest says about the data it was trained on."""
        hashes = {Path(file.path).name: file.sha256 or self.content_sha256 for file in self.files}
        return Data(name=self.name, source=self.origin, licence=self.licence, sha256={k: v for k, v in hashes.items() if v})


def data_folder() -> Path:
    """WHYSERVE_DATA where it is set, else `data/` of the checkout."""
    configured = os.environ.get("WHYSERVE_DATA")
    return Path(configured) if configured else CHECKOUT_DATA


def ensure(source: Source, root: Path | None) -> list[Path]:
    """Paths of a dataset's files below `root`, downloaded where absent and checked. Raises DatasetError."""
    folder = root or data_folder()
    paths = []
    for file in source.files:
        path = folder / file.path
        if not path.exists():
            _download(file, path)
        _check(path, file)
        paths.append(path)
    return paths


def _download(file: DataFile, path: Path) -> None:
    """Fetches into a `.part` file first, so that an interrupted download is never taken for a dataset."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(file.url, timeout=60) as answer, part.open("wb") as target:  # noqa: S310 (https addresses of this module)
            length = int(answer.headers.get("Content-Length") or 0) or None
            with tqdm(total=length, unit="B", unit_scale=True, desc=path.name) as progress:
                while block := answer.read(1 << 16):
                    target.write(block)
                    progress.update(len(block))
    except (urllib.error.URLError, OSError) as error:
        part.unlink(missing_ok=True)
        raise DatasetError(f"{file.path}: not in the data folder {path.parents[1]} and {file.url} can't be fetched ({error})") from error
    try:
        _check(part, file)
    except DatasetError:
        part.unlink()
        raise
    part.replace(path)


def _check(path: Path, file: DataFile) -> None:
    if file.sha256 is None:
        return
    found = sha256_of(path)
    if found != file.sha256:
        raise DatasetError(
            f"{path} is not the file that was measured: its sha256 is {found}, expected {file.sha256}; delete it to download it again"
        )

"""A bundle on disk: found, read, and its files' hashes checked. Nothing is loaded into ONNX Runtime here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from service.errors import BadBundle as BadBundle
from service.manifest import GOLDEN_FILE, MANIFEST_FILE, MODEL_FILE, Golden, Manifest, sha256_of

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Location:
    """Where a version of a model lies."""

    name: str
    version: int
    folder: Path


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle folder holds. `manifest` is None for a bare `model.onnx`: the session will tell inputs and outputs."""

    location: Location
    model_sha256: str
    manifest: Manifest | None
    golden: Golden | None

    @property
    def model_file(self) -> Path:
        return self.location.folder / MODEL_FILE


def find_bundles(root: Path, single_name: str | None = None) -> list[Location]:
    """Every `name/version/` below a repository, or the one bundle that `root` itself is (named by `single_name`).

    Raises BadBundle where the folder doesn't exist or where two folders claim one model.
    """
    if not root.is_dir():
        raise BadBundle(f"model repository {str(root)!r}: no such folder")
    if (root / MODEL_FILE).is_file():
        return [Location(single_name or _single_name(root), _single_version(root), root)]
    return sorted(_versions(root), key=lambda location: (location.name, location.version))


def _versions(root: Path) -> Iterator[Location]:
    for folder in root.iterdir():
        if not folder.is_dir() or not _NAME.fullmatch(folder.name):
            continue
        for version in folder.iterdir():
            if version.is_dir() and version.name.isascii() and version.name.isdigit() and int(version.name) > 0:
                yield Location(folder.name, int(version.name), version)


def _single_name(folder: Path) -> str:
    manifest = _manifest(folder)
    return manifest.name if manifest else folder.resolve().name


def _single_version(folder: Path) -> int:
    manifest = _manifest(folder)
    return manifest.version if manifest else 1


def read_bundle(location: Location) -> Bundle:
    """The bundle at a location. Raises BadBundle: file missing, manifest invalid, a hash that differs."""
    folder = location.folder
    if not (folder / MODEL_FILE).is_file():
        raise BadBundle(f"{MODEL_FILE} is missing")
    manifest = _manifest(folder)
    if manifest is None:
        return Bundle(location, sha256_of(folder / MODEL_FILE), None, None)
    for file, expected in manifest.files.items():
        if not (folder / file).is_file():
            raise BadBundle(f"{file} is missing, the manifest lists it")
        if (found := sha256_of(folder / file)) != expected:
            raise BadBundle(f"{file} is not the file of the manifest: sha256 {found[:12]}.., expected {expected[:12]}..")
    return Bundle(location, manifest.files[MODEL_FILE], manifest, _golden(folder))


def _manifest(folder: Path) -> Manifest | None:
    if not (folder / MANIFEST_FILE).is_file():
        return None
    try:
        return Manifest.read(folder)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadBundle(f"{MANIFEST_FILE} is no YAML: {str(error).splitlines()[0]}") from None
    except OSError as error:
        raise BadBundle(f"{MANIFEST_FILE} can't be read: {error.strerror}") from None
    except ValidationError as error:
        raise BadBundle(f"{MANIFEST_FILE}: {_first(error)}") from None


def _golden(folder: Path) -> Golden | None:
    if not (folder / GOLDEN_FILE).is_file():
        return None
    try:
        return Golden.read(folder)
    except ValidationError as error:
        raise BadBundle(f"{GOLDEN_FILE}: {_first(error)}") from None


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(map(str, problem["loc"]))
    return f"{where + ': ' if where else ''}{problem['msg']}"

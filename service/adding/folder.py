"""The bundle's folder: a version that isn't taken, written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from service.adding.refused import NotAdded
from service.adding.wishes import Wishes


def version_for(wishes: Wishes) -> int:
    """The version asked for, or the next one. Raises NotAdded where it is taken or the repository is no folder."""
    if wishes.models.exists() and not wishes.models.is_dir():
        raise NotAdded(f"--models {str(wishes.models)!r} is no folder")
    folder = wishes.models / wishes.name
    try:
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    except OSError as error:
        raise NotAdded(f"{str(folder)!r} can't be read: {error.strerror}") from None
    taken = sorted(int(name) for name in names if name.isascii() and name.isdigit())
    version = wishes.version if wishes.version is not None else max(taken, default=0) + 1
    if version in taken or str(version) in names:
        raise NotAdded(f"model {wishes.name!r} has a version {version} already; without --version the next one is taken: {max(taken) + 1}")
    return version


@contextmanager
def partial_folder(wishes: Wishes) -> Iterator[Path]:
    """An empty folder beside where the bundle goes, gone at the end. Raises NotAdded where nothing can be written there."""
    try:
        wishes.models.mkdir(parents=True, exist_ok=True)
        folder = Path(mkdtemp(prefix=".adding-", dir=wishes.models))
        folder.chmod(0o777 & ~_umask())
    except OSError as error:
        raise NotAdded(f"--models {str(wishes.models)!r}: {error.strerror}") from None
    try:
        yield folder
    except OSError as error:
        raise NotAdded(f"the bundle can't be written to {str(wishes.models)!r}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put_in_place(partial: Path, wishes: Wishes, version: int) -> Path:
    """Moves the complete bundle to NAME/VERSION; the folder it is now. Raises NotAdded where somebody was faster."""
    folder = wishes.models / wishes.name / str(version)
    try:
        folder.parent.mkdir(exist_ok=True)
        partial.rename(folder)
    except OSError as error:
        raise NotAdded(f"the bundle can't be put to {str(folder)!r}: {error.strerror}") from None
    return folder


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current

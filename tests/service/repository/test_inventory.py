"""What an explainer's server knows of the bundles on disk without loading any."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support import bundle_named

from service.errors import NotFound, Unavailable
from service.repository.inventory import Inventory

TABLE = bundle_named("wine-perceptron")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    shutil.copytree(TABLE.folder, tmp_path / "sound" / "1")
    shutil.copytree(TABLE.folder, tmp_path / "broken" / "1")
    (tmp_path / "broken" / "1" / "model.onnx").write_bytes(b"no onnx")
    return tmp_path


async def test_bundles_are_sound_or_refused_with_their_reason(repository: Path) -> None:
    inventory = Inventory(repository, None)
    assert not inventory.registry.settled
    await inventory.take()
    assert inventory.registry.ready(strict=False)
    assert not inventory.registry.ready(strict=True)
    assert (await inventory.sound("sound")).location.version == 1
    with pytest.raises(Unavailable, match="sha256"):
        await inventory.sound("broken")


async def test_what_changed_on_disk_is_found(repository: Path) -> None:
    inventory = Inventory(repository, None)
    await inventory.take()
    with pytest.raises(NotFound):
        await inventory.sound("sound", "2")
    shutil.copytree(TABLE.folder, repository / "sound" / "2")
    shutil.copy(TABLE.folder / "model.onnx", repository / "broken" / "1")
    assert (await inventory.sound("sound", "2")).location.version == 2
    assert (await inventory.sound("broken")).state == "READY"
    shutil.rmtree(repository / "broken")
    await inventory.take()
    assert inventory.registry.names() == ["sound"]

"""Every exporter's models, added by the command and served by one real server."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from exporters import Added, add, all_exported
from support import started


@pytest.fixture(scope="session")
def added(tmp_path_factory: pytest.TempPathFactory) -> Added:
    folder = tmp_path_factory.mktemp("exported")
    exported = all_exported(folder)
    models = folder / "models"
    reports = {name: add(e.file, "--name", name, "--models", models, *e.options) for name, e in exported.items()}
    return Added(models, exported, reports)


@pytest.fixture(scope="session")
def served(added: Added) -> Iterator[httpx.Client]:
    with started("--models", str(added.models), "--explainers", "1") as server, httpx.Client(base_url=server.url, timeout=70) as client:
        yield client

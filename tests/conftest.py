"""One real server a test session, started as users start it, over the committed bundles."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from support import BUNDLES, Bundle, Server, started


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """`whyserve serve` over models/, with one explainer."""
    with started("--explainers", "1") as running:
        yield running


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=70) as client:
        yield client


@pytest.fixture(params=BUNDLES, ids=lambda bundle: f"{bundle.name}-{bundle.version}", scope="session")
def bundle(request: pytest.FixtureRequest) -> Bundle:
    """Each bundle of models/, whichever are there."""
    return request.param

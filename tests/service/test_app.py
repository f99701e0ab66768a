"""The app as a whole: what nobody foresaw is an answer too, and nothing of the server's insides."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from support import MODELS, serving

from service.app import create_app
from service.errors import DeviceMissing
from service.repository.bundle import BadBundle
from service.settings import BadSetting, Settings


async def test_an_unforeseen_error_is_json_without_insides():
    async with serving() as client:
        assert isinstance(client._transport, httpx.ASGITransport)

        async def breaks() -> None:
            raise ZeroDivisionError("secret words at /some/path.py")

        client._transport.app.add_api_route("/breaks", breaks)  # type: ignore[attr-defined]
        response = await client.get("/breaks")
    assert response.status_code == 500
    assert response.json().keys() == {"error", "code"}
    assert response.json()["code"] == "internal"
    assert "secret" not in response.text


def test_what_cannot_start_says_so_before_it_listens(tmp_path: Path):
    with pytest.raises(BadBundle, match="no such folder"):
        create_app(Settings(models=tmp_path / "nope"))
    with pytest.raises(DeviceMissing, match="cuda"):
        create_app(Settings(models=MODELS, device="cuda"))
    with pytest.raises(BadSetting, match="API_KEYS_FILE"):
        create_app(Settings(models=MODELS, api_keys_file=tmp_path / "nope"))


def test_every_route_has_one_place():
    """Two routes of one path and method: the second would never answer."""
    routes = [
        (path, method)
        for route in create_app(Settings(models=MODELS, explainers=0)).routes
        if (path := getattr(route, "path", None))
        for method in sorted(getattr(route, "methods", None) or ())
    ]
    doubled = {pair for pair in routes if routes.count(pair) > 1}
    assert doubled == set()

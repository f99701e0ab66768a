"""The routes about layers on the running service: every bundle, each form, errors by status."""

from __future__ import annotations

import httpx
import pytest
from pydantic import BaseModel
from support import Bundle, bundle_named, digit, is_error, png

from service.api import schemas_layers as schemas

PNG = {"accept": "image/png"}


def fits(model: type[BaseModel], response: httpx.Response) -> None:
    assert response.status_code == 200, response.text[:500]
    model.model_validate_json(response.content)


def test_layers_and_activations_of_every_bundle(client: httpx.Client, bundle: Bundle):
    fits(schemas.Layers, client.get(f"{bundle.v1}/layers"))
    body = {"instances": [bundle.instance(0), bundle.instance(1)]}
    fits(schemas.Activations, client.post(f"{bundle.v1}:activations", json=body))
    picture = client.post(f"{bundle.v1}:activations", json=body, headers=PNG)
    assert picture.content.startswith(b"\x89PNG"), picture.text[:300]


def test_layer_attributions_of_every_bundle(client: httpx.Client, bundle: Bundle):
    body = {"instances": [bundle.instance(0)], "parameters": {"steps": 8}}
    fits(schemas.LayerExplanations, client.post(f"{bundle.v1}:explain-layer", json=body))
    picture = client.post(f"{bundle.v1}:explain-layer", json=body, headers=PNG)
    assert picture.content.startswith(b"\x89PNG"), picture.text[:300]


@pytest.mark.parametrize("name", ["mnist-cnn", "wine-mlp"])
def test_filters_and_visualisations_in_each_form(client: httpx.Client, name: str):
    v1 = bundle_named(name).v1
    asked = {"parameters": {"steps": 5, "unit": [0, 1]}}
    fits(schemas.Filters, client.get(f"{v1}/filters"))
    fits(schemas.Visualisations, client.post(f"{v1}:visualise", json=asked))
    assert client.get(f"{v1}/versions/1/filters", headers=PNG).content.startswith(b"\x89PNG")
    assert client.post(f"{v1}/versions/1:visualise", json=asked, headers=PNG).content.startswith(b"\x89PNG")
    page = client.post(f"{v1}:visualise", json=asked, headers={"accept": "text/html"})
    assert page.text.startswith("<!doctype html>")
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_errors_say_what_exists(client: httpx.Client):
    body = png(digit(0))
    is_error(client.post("/v1/models/mnist-cnn:activations?layer=conv9", content=body), 400, "node_relu")
    is_error(client.post("/v1/models/mnist-cnn:activations?what=1", content=body), 400, "there are")
    is_error(client.post("/v1/models/mnist-cnn:explain-layer?steps=100000", content=body), 400, "WHYSERVE_MAX_STEPS")
    is_error(client.post("/v1/models/mnist-cnn:visualise?unit=10", json={}), 400, "0 to 9")
    is_error(client.post("/v1/models/mnist-cnn:visualise?steps=1000&copies=32&timeout=0.5", json={}), 504)
    is_error(client.post("/v1/models/sst2-gru:visualise", json={}), 400, "text")
    is_error(client.get("/v1/models/nobody/layers"), 404)
    is_error(client.get("/v1/models/mnist-cnn/filters", headers={"accept": "audio/wav"}), 406)


def test_the_document_describes_them(client: httpx.Client):
    paths = client.get("/openapi.json").json()["paths"]
    for path in (":activations", ":explain-layer", ":visualise"):
        assert "image/png" in paths[f"/v1/models/{{name}}{path}"]["post"]["responses"]["200"]["content"]
    assert "get" in paths["/v1/models/{name}/layers"]
    assert "image/png" in paths["/v1/models/{name}/filters"]["get"]["responses"]["200"]["content"]

"""TorchServe's paths: the same work as V1, without an envelope."""

from __future__ import annotations

import httpx
import pytest
from support import Bundle, bundle_named, digit, is_error, png

MNIST = bundle_named("mnist-cnn")


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("version", ["", "/1"])
def test_predictions(client: httpx.Client, method: str, version: str):
    response = client.request(method, f"/predictions/{MNIST.name}{version}", content=png(digit(0)))
    assert response.json()["index"] == int(MNIST.probabilities(MNIST.row(0)).argmax())
    two = client.request(method, f"/predictions/{MNIST.name}{version}", json={"instances": [MNIST.instance(0), MNIST.instance(1)]})
    assert [p["index"] for p in two.json()] == [int(MNIST.probabilities(MNIST.row(n)).argmax()) for n in (0, 1)]


def test_explanations(client: httpx.Client, bundle: Bundle):
    response = client.put(f"/explanations/{bundle.name}", json={"instances": [bundle.instance()], "parameters": {"method": "saliency"}})
    assert response.status_code == 200, response.text
    assert response.json()["method"] == "saliency"


def test_ping_and_errors(client: httpx.Client):
    assert client.get("/ping").json() == {"status": "Healthy"}
    is_error(client.post("/predictions/nope", content=png(digit(0))), 404, "nope")
    is_error(client.post(f"/predictions/{MNIST.name}/8", content=png(digit(0))), 404)
    is_error(client.post(f"/predictions/{MNIST.name}", content=png(digit(0))[:50]), 400)
    is_error(client.post(f"/explanations/{MNIST.name}", content=png(digit(0)), headers={"accept": "image/png"}), 406)

"""Live answers held against the OpenAPI document's own schemas, and the document against the routes there are."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from support import Bundle, is_error

from service.api import schemas
from service.codecs.v2_bodies import ResponseBody


def test_every_verb_is_described(client: httpx.Client):
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    for name in ("/v1/models/{name}", "/v1/models/{name}/versions/{version}"):
        for verb in ("predict", "explain", "generate"):
            operation = document["paths"][f"{name}:{verb}"]["post"]
            assert {"400", "404", "413", "415", "503", "504"} <= operation["responses"].keys()
            assert "application/json" in operation["requestBody"]["content"]
    for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        assert "post" in document["paths"][f"{path}/infer"]
        assert "post" in document["paths"][f"{path}/explain"]
    for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/metrics", "/v1/models/{name}/methods", "/v2/repository/index"):
        assert path in document["paths"], path


def test_every_reference_of_the_document_exists(client: httpx.Client):
    document = client.get("/openapi.json").json()

    def follow(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(reference := node.get("$ref"), str):
                assert reference.startswith("#/components/schemas/"), reference
                assert reference.rpartition("/")[2] in document["components"]["schemas"], reference
            for value in node.values():
                follow(value)
        elif isinstance(node, list):
            for value in node:
                follow(value)

    follow(document)


def test_the_documentation_page_answers(client: httpx.Client):
    page = client.get("/docs")
    assert page.status_code == 200
    assert "openapi.json" in page.text


def fits(model: type[BaseModel], response: httpx.Response) -> None:
    """Strict JSON validation: unknown fields are forbidden by the schemas themselves."""
    assert response.status_code == 200, response.text
    model.model_validate_json(response.content)


@pytest.mark.parametrize("method", ["integrated_gradients", "saliency"])
def test_explanations_fit_their_schema(client: httpx.Client, bundle: Bundle, method: str):
    body = {"instances": [bundle.instance(0), bundle.instance(1)], "parameters": {"method": method}}
    fits(schemas.Explanations, client.post(f"{bundle.v1}:explain", json=body))


def test_predictions_and_generations_fit_their_schema(client: httpx.Client, bundle: Bundle):
    response = client.post(f"{bundle.v1}:predict", json={"instances": [bundle.instance()]})
    fits(schemas.Predictions, response)
    if bundle.manifest.outputs[0].kind == "classes":
        for prediction in response.json()["predictions"]:
            schemas.Classification.model_validate(prediction)
    if any(i.sample for i in bundle.manifest.inputs) and bundle.manifest.outputs[0].kind == "image":
        fits(schemas.Generations, client.post(f"{bundle.v1}:generate", json={"parameters": {"n": 2}}))


def test_v2_answers_fit_their_schema(client: httpx.Client, bundle: Bundle):
    row = bundle.row()
    names = {"float32": "FP32", "int64": "INT64"}
    tensors = [{"name": n, "shape": [1, *a.shape], "datatype": names[str(a.dtype)], "data": a.ravel().tolist()} for n, a in row.items()]
    for verb in ("infer", "explain"):
        fits(ResponseBody, client.post(f"/v2/models/{bundle.name}/{verb}", json={"inputs": tensors}))


def test_errors_fit_their_schema(client: httpx.Client, bundle: Bundle):
    for response in (client.post(f"{bundle.v1}:predict", json={}), client.get("/nope"), client.get(f"{bundle.v1}:predict")):
        is_error(response, response.status_code)
        schemas.Error.model_validate_json(response.content)

"""V1 over the live server, every bundle: bodies in each form, answers held against ONNX Runtime."""

from __future__ import annotations

import base64
import gzip
import json
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from support import BUNDLES, SENTENCES, Bundle, digit, is_error, png
from tokenizers import Tokenizer
from v1_answers import GENERATORS, PICTURES, TABLES, TEXTS, agrees, of, others

# ------------------------------------------------------------------------------------------------------------------ predict


def test_every_bundle_of_the_repository_is_listed_and_ready(client: httpx.Client):
    assert client.get("/v1/models").json()["models"] == sorted({b.name for b in BUNDLES})
    for bundle in BUNDLES:
        assert client.get(bundle.v1).json() == {"name": bundle.name, "ready": True}


def test_json_instances(client: httpx.Client, bundle: Bundle):
    instances = [bundle.instance(number) for number in range(3)]
    for field in ("instances", "inputs"):
        for method in ("POST", "PUT"):
            response = client.request(method, f"{bundle.v1}:predict", json={field: instances}, headers={"x-request-id": "mine-7"})
            assert response.status_code == 200, response.text
            answer = response.json()
            for number, prediction in enumerate(answer["predictions"]):
                agrees(bundle, number, prediction)
            assert (answer["model_name"], answer["model_version"], answer["id"]) == (bundle.name, bundle.version, "mine-7")
            assert response.headers["x-request-id"] == "mine-7"
    assert len(answer["predictions"]) == 3


def test_a_version_by_its_number(client: httpx.Client, bundle: Bundle):
    answer = client.post(f"{bundle.v1}/versions/{bundle.version}:predict", json={"instances": [bundle.instance()]})
    agrees(bundle, 0, answer.json()["predictions"][0])


def test_golden_cases_over_http(client: httpx.Client, bundle: Bundle):
    for case in bundle.golden.cases:
        response = client.post(
            f"{bundle.v1}:{case.verb}",
            content=base64.b64decode(case.body_b64),
            headers={"content-type": case.content_type},
            params=case.query,
        )
        assert response.status_code == 200, response.text
        got = response.json()["predictions" if case.verb == "predict" else "generations"]
        assert len(got) == len(case.expected)
        for expected, answered in zip(case.expected, got, strict=True):
            same(expected, answered, case.tolerance)


def same(expected: Any, got: Any, tolerance: float) -> None:
    if isinstance(expected, dict):
        for name, value in expected.items():
            same(value, got[name], tolerance)
    elif isinstance(expected, list) and expected and isinstance(expected[0], dict):
        for one, other in zip(expected, got, strict=True):
            same(one, other, tolerance)
    elif isinstance(expected, str):
        assert got == expected
    else:
        np.testing.assert_allclose(np.array(got, float), np.array(expected, float), rtol=tolerance, atol=tolerance)


@of(PICTURES)
@pytest.mark.parametrize("content_type", ["image/png", "", "application/octet-stream", "application/x-www-form-urlencoded"])
def test_a_raw_picture(client: httpx.Client, bundle: Bundle, content_type: str):
    response = client.post(f"{bundle.v1}:predict", content=png(digit(0)), headers={"content-type": content_type}, params=others(bundle))
    assert response.status_code == 200, response.text
    agrees(bundle, 0, response.json()["predictions"][0])


@of(PICTURES)
def test_a_base64_picture_alone_as_data_url_and_by_name(client: httpx.Client, bundle: Bundle):
    encoded = base64.b64encode(png(digit(0))).decode()
    first, *rest = bundle.manifest.inputs
    named = {i.name: bundle.row()[i.name].tolist() for i in rest}
    forms = [{"b64": encoded}, {"data": encoded}, {"b64": f"data:image/png;base64,{encoded}"}]
    instances: list[Any] = [{first.name: form} | named for form in forms] + ([] if rest else forms)
    for prediction in client.post(f"{bundle.v1}:predict", json={"instances": instances}).json()["predictions"]:
        agrees(bundle, 0, prediction)


@of(PICTURES)
def test_multipart_pictures(client: httpx.Client, bundle: Bundle):
    if len(bundle.manifest.inputs) == 1:
        files = [("a", ("0.png", png(digit(0)), "image/png")), ("b", ("1.png", png(digit(1)), "image/png"))]
        predictions = client.post(f"{bundle.v1}:predict", files=files, data={"top_k": "5"}).json()["predictions"]
        assert len(predictions) == 2
    else:
        files = [(bundle.manifest.inputs[0].name, ("0.png", png(digit(0)), "image/png"))]
        predictions = client.post(f"{bundle.v1}:predict", files=files, data=others(bundle)).json()["predictions"]
        assert len(predictions) == 1
    for number, prediction in enumerate(predictions):
        agrees(bundle, number, prediction)


@of(PICTURES)
def test_pictures_of_another_kind_are_converted(client: httpx.Client, bundle: Bundle):
    grey = Image.fromarray(digit(0))
    opaque = Image.merge("LA", (grey, Image.new("L", (28, 28), 255)))
    kinds = [grey.convert("RGB"), grey.convert("RGBA"), opaque, grey.convert("P"), grey.convert("CMYK")]
    for picture in kinds:
        kind = "TIFF" if picture.mode == "CMYK" else "PNG"
        response = client.post(f"{bundle.v1}:predict", content=png(picture, kind), params=others(bundle))
        assert response.status_code == 200, (picture.mode, response.text)
        # the colour-to-grey weights of a grey picture give it back to one level of 255
        agrees(bundle, 0, response.json()["predictions"][0], tolerance=2e-2)


@of(TEXTS)
@pytest.mark.parametrize("content_type", ["text/plain", "text/plain; charset=utf-8", "", "application/octet-stream"])
def test_a_raw_text(client: httpx.Client, bundle: Bundle, content_type: str):
    response = client.post(f"{bundle.v1}:predict", content=SENTENCES[0].encode(), headers={"content-type": content_type})
    agrees(bundle, 0, response.json()["predictions"][0])


@of(TEXTS)
def test_texts_of_different_lengths_in_one_request_and_as_files(client: httpx.Client, bundle: Bundle):
    answers = [client.post(f"{bundle.v1}:predict", json={"instances": [bundle.instance(n) for n in (0, 1, 2, 0)]})]
    answers.append(client.post(f"{bundle.v1}:predict", files=[("t", (f"{n}.txt", SENTENCES[n], "text/plain")) for n in (0, 1, 2, 0)]))
    for answer in answers:
        assert answer.status_code == 200, answer.text
        for number, prediction in zip((0, 1, 2, 0), answer.json()["predictions"], strict=True):
            agrees(bundle, number, prediction)


@of(TEXTS)
def test_a_text_beyond_max_length_is_cut_with_a_warning(client: httpx.Client, bundle: Bundle):
    """By the library's own truncation; the policy of this bundle is `truncate`."""
    policy = bundle.manifest.inputs[0].text
    assert policy is not None
    assert policy.beyond == "truncate"
    text = "good " * (policy.max_length + 50)
    tokenizer = Tokenizer.from_file(str(bundle.folder / policy.tokenizer))
    tokenizer.enable_truncation(policy.max_length)
    encoding = tokenizer.encode(text)
    answer = client.post(
        f"{bundle.v1}:explain", content=text.encode(), headers={"content-type": "text/plain"}, params={"method": "saliency"}
    )
    (explanation,) = answer.json()["explanations"]
    assert len(explanation["tokens"]) == policy.max_length
    assert explanation["truncated_at"] == encoding.offsets[-1][1]
    assert any("cut" in warning for warning in explanation["warnings"])


@of(TABLES)
def test_a_row_by_column_names(client: httpx.Client, bundle: Bundle):
    table = bundle.manifest.inputs[0].table
    assert table is not None
    named = dict(zip([c.name for c in table.columns], bundle.row(2)[bundle.manifest.inputs[0].name].tolist(), strict=True))
    shuffled = dict(reversed(named.items()))
    (prediction,) = client.post(f"{bundle.v1}:predict", json={"instances": [shuffled]}).json()["predictions"]
    agrees(bundle, 2, prediction)


def test_top_k(client: httpx.Client, bundle: Bundle):
    if bundle.manifest.outputs[0].kind != "classes":
        return
    for sent in ({"json": {"instances": [bundle.instance()], "parameters": {"top_k": 1}}}, {"json": {"instances": [bundle.instance()]}}):
        answer = client.post(f"{bundle.v1}:predict", params={"top_k": 2}, **sent).json()
        assert len(answer["predictions"][0]["top"]) == (1 if "parameters" in sent["json"] else 2)


def test_a_gzipped_body(client: httpx.Client, bundle: Bundle):
    body = gzip.compress(json.dumps({"instances": [bundle.instance()]}).encode())
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    agrees(bundle, 0, client.post(f"{bundle.v1}:predict", content=body, headers=headers).json()["predictions"][0])


# ----------------------------------------------------------------------------------------------------------------- generate


def pictures_of(response: httpx.Response) -> list[np.ndarray]:
    assert response.status_code == 200, response.text
    found = []
    for generation in response.json()["generations"]:
        assert generation["media_type"] == "image/png"
        found.append(np.asarray(Image.open(BytesIO(base64.b64decode(generation["b64"])))))
    return found


@of(GENERATORS)
def test_generated_pictures_are_the_models_output_for_the_inputs_answered(client: httpx.Client, bundle: Bundle):
    response = client.post(f"{bundle.v1}:generate", json={"parameters": {"n": 3, "class": 7, "seed": 1}})
    output = bundle.manifest.outputs[0]
    low, high = output.range or (0.0, 255.0)
    pictures = pictures_of(response)
    assert len(pictures) == 3
    for picture, generation in zip(pictures, response.json()["generations"], strict=True):
        row = {i.name: np.array(generation[i.name], i.dtype) for i in bundle.manifest.inputs}
        expected = (bundle.run(row)[output.name] - low) / (high - low) * 255
        assert np.abs(picture.reshape(expected.shape) - expected.clip(0, 255)).max() <= 1.0
        assert generation["class"] == 7


@of(GENERATORS)
def test_a_seed_draws_the_same_again_and_another_seed_something_else(client: httpx.Client, bundle: Bundle):
    def generate(**parameters: Any) -> Any:
        return client.post(f"{bundle.v1}:generate", json={"parameters": parameters}).json()["generations"]

    assert generate(n=2, seed=5) == generate(n=2, seed=5)
    assert generate(n=1, seed=5) == generate(n=2, seed=5)[:1]
    assert generate(n=1, seed=5) != generate(n=1, seed=6)


@of(GENERATORS)
def test_generate_from_instances_from_a_query_and_as_a_grid(client: httpx.Client, bundle: Bundle):
    instance = bundle.instance(1)
    response = client.post(f"{bundle.v1}:generate", json={"instances": [instance, {"class": 3}]})
    first, second = response.json()["generations"]
    assert first["class"] == instance["class"]
    np.testing.assert_allclose(first["latent"], instance["latent"], rtol=1e-6)
    assert second["class"] == 3
    assert len(pictures_of(client.post(f"{bundle.v1}:generate", params={"n": 2, "class": "4"}))) == 2
    grid = client.post(f"{bundle.v1}:generate", params={"n": 9}, headers={"accept": "image/png"})
    assert grid.headers["content-type"] == "image/png"
    with Image.open(BytesIO(grid.content)) as drawn:
        assert min(drawn.size) >= 3 * 28


@of(GENERATORS)
def test_what_generate_refuses(client: httpx.Client, bundle: Bundle):
    url = f"{bundle.v1}:generate"
    is_error(client.post(url, json={"parameters": {"class": "eleven"}}), 400, "eleven", "0")
    is_error(client.post(url, json={"parameters": {"class": 10}}), 400, "10")
    is_error(client.post(url, json={"parameters": {"n": 0}}), 400, "n")
    is_error(client.post(url, json={"parameters": {"n": 257}}), 413, "256")
    is_error(client.post(url, json={"parameters": {"n": 10**12}}), 413, "256")
    is_error(client.post(url, json={"parameters": {"colour": 1}}), 400, "colour", "seed")
    is_error(client.post(url, json={"instances": [{"latent": [1.0]}]}), 400, "latent")
    is_error(client.post(url, json={"instances": [{"nope": 1}]}), 400, "nope")
    is_error(client.post(url, json={"instances": [{"class": 2}] * 257}), 413, "256")


@of([b for b in BUNDLES if b not in GENERATORS])
def test_a_model_that_generates_nothing_says_so(client: httpx.Client, bundle: Bundle):
    for body in ({"parameters": {"n": 1}}, {"instances": [bundle.instance()]} if len(bundle.manifest.inputs) > 1 else {}):
        is_error(client.post(f"{bundle.v1}:generate", json=body), 404, "predict")

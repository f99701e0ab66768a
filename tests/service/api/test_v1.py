"""V1 over the live server, every bundle: bodies in each form, answers held against ONNX Runtime."""

from __future__ import annotations

import base64
import gzip
import json
import re
import time
from io import BytesIO
from itertools import pairwise
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from support import BUNDLES, SENTENCES, Bundle, bundle_named, digit, is_error, png
from tokenizers import Tokenizer

GENERATORS = [b for b in BUNDLES if any(o.kind == "image" for o in b.manifest.outputs)]
PICTURES = [b for b in BUNDLES if b.manifest.inputs[0].image]
TEXTS = [b for b in BUNDLES if b.manifest.inputs[0].text]
TABLES = [b for b in BUNDLES if b.manifest.inputs[0].table]
SEVERAL = [b for b in BUNDLES if len(b.manifest.inputs) > 1]


def of(bundles: list[Bundle]) -> Any:
    return pytest.mark.parametrize("bundle", bundles, ids=lambda b: b.name)


def agrees(bundle: Bundle, number: int, prediction: dict[str, Any], tolerance: float = 2e-5) -> None:
    """Asserts that a prediction is what ONNX Runtime computes for the bundle's row of that number."""
    output = bundle.manifest.outputs[0]
    if output.kind != "classes":
        expected = bundle.run(bundle.row(number))
        for name, array in expected.items():
            np.testing.assert_allclose(np.array(prediction[name]), array, rtol=1e-4, atol=1e-2 if output.kind == "image" else 1e-5)
        return
    probabilities = bundle.probabilities(bundle.row(number))
    best = int(probabilities.argmax())
    assert (prediction["index"], prediction["label"]) == (best, output.labels[best])
    assert prediction["probability"] == pytest.approx(probabilities[best], abs=tolerance)
    order = np.argsort(-probabilities)[:5]
    assert [entry["index"] for entry in prediction["top"]] == order.tolist()
    assert [entry["probability"] for entry in prediction["top"]] == pytest.approx(probabilities[order].tolist(), abs=tolerance)


def others(bundle: Bundle, number: int = 0) -> dict[str, str]:
    """The inputs behind the first one, as a query has them."""
    row = bundle.row(number)
    return {i.name: json.dumps(row[i.name].tolist()) for i in bundle.manifest.inputs[1:]}


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


# ------------------------------------------------------------------------------------------------------------------ explain


def total(attributions: Any) -> float:
    if isinstance(attributions, dict):
        return sum(total(part) for part in attributions.values())
    return float(np.array(attributions, np.float64).sum())


def explain(client: httpx.Client, bundle: Bundle, number: int = 0, **parameters: Any) -> dict[str, Any]:
    response = client.post(f"{bundle.v1}:explain", json={"instances": [bundle.instance(number)], "parameters": parameters})
    assert response.status_code == 200, response.text
    answer = response.json()
    agrees_if_classes(bundle, number, answer["predictions"][0])
    assert answer["model_sha256"] == bundle.manifest.files["model.onnx"]
    (explanation,) = answer["explanations"]
    found: dict[str, Any] = explanation
    return found


def agrees_if_classes(bundle: Bundle, number: int, prediction: dict[str, Any]) -> None:
    if bundle.manifest.outputs[0].kind == "classes":
        agrees(bundle, number, prediction)


@pytest.mark.parametrize("number", [0, 1])
def test_attributions_add_up_to_what_onnx_runtime_says(client: httpx.Client, bundle: Bundle, number: int):
    """Completeness, from the answer's numbers and ONNX Runtime's alone (Sundararajan et al. 2017, proposition 1)."""
    row = bundle.row(number)
    explanation = explain(client, bundle, number)
    target = None
    if bundle.manifest.outputs[0].kind == "classes":
        target = int(bundle.probabilities(row).argmax())
        assert explanation["target"] == {"label": bundle.manifest.outputs[0].labels[target], "index": target}
    f_x, f_b = bundle.explained(row, target)
    scale = max(abs(f_x - f_b), 0.01 * max(1.0, abs(f_x)))
    assert explanation["instance_output"] == pytest.approx(f_x, rel=1e-4, abs=1e-4)
    assert explanation["baseline_output"] == pytest.approx(f_b, rel=1e-4, abs=1e-4)
    assert abs(total(explanation["attributions"]) - (f_x - f_b)) / scale <= 0.0101
    assert explanation["completeness_error"] <= 0.01
    assert explanation["converged"] is True
    assert explanation["parity_error"] <= 1e-4


def test_attributions_have_the_shape_of_what_was_sent(client: httpx.Client, bundle: Bundle):
    explanation = explain(client, bundle, method="saliency")
    row = bundle.row()
    shapes = {i.name: row[i.name].shape for i in bundle.manifest.inputs}
    found = explanation["attributions"] if len(shapes) > 1 else {bundle.manifest.inputs[0].name: explanation["attributions"]}
    assert {name: np.array(part).shape for name, part in found.items()} == shapes
    assert explanation["completeness_error"] is None


def test_the_methods_listed_are_those_that_work(client: httpx.Client, bundle: Bundle):
    methods = client.get(f"{bundle.v1}/methods").json()["methods"]
    assert [method["name"] for method in methods if method["default"]] == ["integrated_gradients"]
    for method in methods:
        assert "target" in method["parameters"]["properties"]
        assert explain(client, bundle, method=method["name"])["method"] == method["name"]


def test_targets_by_label_index_list_and_one_an_instance(client: httpx.Client, bundle: Bundle):
    output = bundle.manifest.outputs[0]
    if output.kind != "classes":
        return
    label = output.labels[1]
    for target in (1, label, [1], "1"):
        if target == [1] and output.shape == (1,):
            continue  # a single score has no second element
        assert explain(client, bundle, target=target, method="saliency")["target"]["label"] == label
    parameters = {"targets": [0, label], "method": "saliency"}
    answer = client.post(f"{bundle.v1}:explain", json={"instances": [bundle.instance()] * 2, "parameters": parameters}).json()
    assert [explanation["target"]["index"] for explanation in answer["explanations"]] == [0, 1]


def test_steps_are_as_many_as_asked_for(client: httpx.Client, bundle: Bundle):
    explanation = explain(client, bundle, steps=7)
    assert explanation["steps"] == 7
    assert explanation["parameters"]["tolerance"] is None


def test_a_tolerance_out_of_reach_is_said_not_hidden(client: httpx.Client, bundle: Bundle):
    explanation = explain(client, bundle, tolerance=1e-12, max_steps=16)
    if explanation["completeness_error"] > 1e-12:  # a linear model reaches any tolerance
        assert explanation["converged"] is False
        assert any("tolerance" in warning for warning in explanation["warnings"])


@of([b for b in BUNDLES if b.manifest.inputs[0].image])
def test_an_encoded_picture_has_geometry_and_attributions_by_height_width_channel(client: httpx.Client, bundle: Bundle):
    sent = Image.fromarray(digit(0)).resize((60, 40))
    query = others(bundle) | {"method": "saliency"}
    (explanation,) = client.post(f"{bundle.v1}:explain", content=png(sent), params=query).json()["explanations"]
    first = bundle.manifest.inputs[0]
    assert first.image is not None

    def of_picture(part: Any) -> Any:
        return part[first.name] if len(bundle.manifest.inputs) > 1 else part

    frame = (first.image.height, first.image.width, first.image.channels)
    assert np.array(of_picture(explanation["attributions"])).shape == frame
    assert of_picture(explanation["geometry"])["sent"] == {"width": 60, "height": 40}
    (inside,) = client.post(f"{bundle.v1}:explain", content=png(sent), params=query | {"coordinates": "sent"}).json()["explanations"]
    back = np.array(of_picture(inside["attributions"]))
    assert back.shape == (40, 60, first.image.channels)
    large = png(Image.new("L", (600, 600)))
    is_error(client.post(f"{bundle.v1}:explain", content=large, params=query | {"coordinates": "sent"}), 413, "512")


@of(PICTURES)
@pytest.mark.parametrize("size", [(28, 28), (90, 50)])
def test_the_overlay_has_the_size_of_the_picture_sent(client: httpx.Client, bundle: Bundle, size: tuple[int, int]):
    sent = png(Image.fromarray(digit(3)).resize(size))
    response = client.post(f"{bundle.v1}:explain", content=sent, headers={"accept": "image/png"}, params=others(bundle))
    assert response.headers["content-type"] == "image/png"
    with Image.open(BytesIO(response.content)) as overlay:
        assert overlay.size == size
        colours = np.asarray(overlay.convert("RGB"), int)
    assert (abs(colours[..., 0] - colours[..., 2]) > 30).any(), "no colour in the heat map of a grey digit"


def test_what_can_be_drawn_comes_as_picture_and_page(client: httpx.Client, bundle: Bundle):
    body = {"instances": [bundle.instance(0), bundle.instance(1)]}
    page = client.post(f"{bundle.v1}:explain", json=body, headers={"accept": "text/html,*/*;q=0.1"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "<script" not in page.text.lower()
    assert not re.search(r"""(src|href)=(?!["']?data:)""", page.text), "a page loads nothing"
    picture = client.post(f"{bundle.v1}:explain", json=body, headers={"accept": "image/png"})
    if bundle in TEXTS:
        is_error(picture, 406, "text/html")
        return
    with Image.open(BytesIO(picture.content)) as drawn:
        drawn.load()
        assert drawn.format == "PNG"


@of(TEXTS)
def test_tokens_are_spans_of_the_text_as_sent(client: httpx.Client, bundle: Bundle):
    text = "It doesn\u2019t work \U0001f600 but it\u2019s caf\u00e9 fun"
    headers = {"content-type": "text/plain; charset=utf-8"}
    response = client.post(f"{bundle.v1}:explain", content=text.encode(), headers=headers)
    (explanation,) = response.json()["explanations"]
    spans = [token for token in explanation["tokens"] if token]
    assert len(explanation["tokens"]) == len(explanation["attributions"])
    for token in spans:
        assert token["text"] == text[token["start"] : token["end"]]
    assert {"fun", "work"} <= {token["text"] for token in spans}
    assert all(a["start"] <= b["start"] for a, b in pairwise(spans))


@of(TEXTS)
def test_a_text_is_escaped_on_its_page(client: httpx.Client, bundle: Bundle):
    text = "<script>alert('x')</script> & \"fun\" <img src=x onerror=alert(1)>"
    headers = {"content-type": "text/plain", "accept": "text/html"}
    page = client.post(f"{bundle.v1}:explain", content=text.encode(), headers=headers)
    assert page.status_code == 200
    assert "<script" not in page.text.lower()
    assert "<img" not in page.text.lower()
    shown = re.sub(r"<[^>]+>", "", page.text)
    assert "&lt;" in shown
    assert "alert" in shown


def test_a_short_timeout_is_kept(client: httpx.Client, bundle: Bundle):
    body = {"instances": [bundle.instance(number) for number in range(200)], "parameters": {"timeout": 0.1, "steps": 999}}
    started = time.monotonic()
    response = client.post(f"{bundle.v1}:explain", json=body)
    is_error(response, 504, "timeout")
    assert time.monotonic() - started < 10


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


@of(SEVERAL)
def test_several_inputs_have_attributions_by_name(client: httpx.Client, bundle: Bundle):
    explanation = explain(client, bundle)
    assert explanation["attributions"].keys() == {i.name for i in bundle.manifest.inputs}


def test_several_methods_give_one_explanation_each_and_how_far_they_agree(client: httpx.Client, bundle: Bundle):
    body = {"instances": [bundle.instance(0), bundle.instance(1)], "parameters": {"method": "integrated_gradients, saliency", "steps": 4}}
    answer = client.post(f"{bundle.v1}:explain", json=body).json()
    assert [e["method"] for e in answer["explanations"]] == ["integrated_gradients", "saliency"] * 2
    assert [e["signed"] for e in answer["explanations"]] == [True, False] * 2
    assert answer["explanations"][0]["steps"] == 4  # saliency, which knows no steps, isn't asked for any
    assert len(answer["predictions"]) == len(answer["agreement"]) == 2
    assert answer["agreement"][0]["methods"] == ["integrated_gradients", "saliency"]
    assert -1 <= answer["agreement"][0]["spearman"][0][1] <= 1
    for accept, start in (("text/html", b"<!"), ("image/png", b"\x89PNG")):
        drawn = client.post(f"{bundle.v1}:explain", json=body, headers={"accept": accept})
        if drawn.status_code != 406:  # a text makes no picture
            assert drawn.content.startswith(start), accept


@pytest.mark.parametrize(
    ("method", "words"),
    [("saliency,saliency", ["twice"]), ("saliency,", ["unknown method"]), ('["saliency"', ["JSON"]), (",".join("abcdefghi"), ["1 to 8"])],
)
def test_a_wrong_list_of_methods_is_said(client: httpx.Client, method: str, words: list[str]):
    bundle = bundle_named("wine-mlp")
    body = {"instances": [bundle.instance()], "parameters": {"method": method}}
    is_error(client.post(f"{bundle.v1}:explain", json=body), 400, *words)


def test_a_picture_may_be_the_baseline(client: httpx.Client):
    bundle = bundle_named("mnist-cnn")
    picture = {"b64": base64.b64encode(png(digit(1))).decode()}
    found = []
    for baseline in (picture, {bundle.manifest.inputs[0].name: picture}, digit(1)[None].tolist()):
        body = {"instances": [bundle.instance()], "parameters": {"steps": 8, "baseline": baseline}}
        (explanation,) = client.post(f"{bundle.v1}:explain", json=body).json()["explanations"]
        assert explanation["parameters"]["baseline"] == "instance"
        found.append((explanation["baseline_output"], explanation["attributions"]))
    assert found[0] == found[1] == found[2]
    broken = {"b64": base64.b64encode(png(digit(1))[:60]).decode()}
    body = {"instances": [bundle.instance()], "parameters": {"baseline": broken}}
    is_error(client.post(f"{bundle.v1}:explain", json=body), 400, "'baseline'")

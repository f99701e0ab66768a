"""V1's `:explain` over the live server, every bundle: figures held against ONNX Runtime, attributions as instances were sent."""

from __future__ import annotations

import base64
import re
import time
from io import BytesIO
from itertools import pairwise
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from support import BUNDLES, Bundle, bundle_named, digit, is_error, png
from v1_answers import PICTURES, SEVERAL, TEXTS, agrees, of, others


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

"""What each exporter's model answers once it is added and served, against its own framework; and what is said of it."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest
import torch
from exporters import Added, Batchwise, Exported

from service.manifest import Manifest

TREES = ("forest", "boosting", "regressor", "xgboost", "lightgbm")
SKLEARN = ("logistic", "forest", "boosting", "pipeline", "svm")
WITH_GRADIENTS = ("torch-old", "torch-dynamo", "torch-fixed", "torch-bytes", "torch-batchwise", "keras-cnn", "keras-fixed", "keras-lstm")
ALL = (*SKLEARN, "regressor", "xgboost", "lightgbm", *WITH_GRADIENTS)


def probabilities(exported: Exported) -> np.ndarray:
    scores = exported.scores.astype(np.float64)
    if exported.kind == "logits":
        powers = np.exp(scores - scores.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)
    return np.concatenate([1 - scores, scores], 1) if scores.shape[1] == 1 else scores


def manifest(added: Added, name: str) -> Manifest:
    return Manifest.read(added.models / name / "1")


def answered(client: httpx.Client, name: str, verb: str, instances: list[Any], **parameters: Any) -> dict[str, Any]:
    response = client.post(f"/v1/models/{name}:{verb}", json={"instances": instances, "parameters": parameters})
    assert response.status_code == 200, response.text[:800]
    found: dict[str, Any] = response.json()
    return found


def test_nothing_is_left_untested(added: Added):
    assert set(added.exported) == set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_the_server_answers_as_the_framework_does(name: str, added: Added, served: httpx.Client):
    exported = added.exported[name]
    predictions = answered(served, name, "predict", exported.instances, top_k=10)["predictions"]
    if exported.kind == "values":
        got = [p["value"] if "value" in p else p["values"] for p in predictions]
        np.testing.assert_allclose(np.array(got).reshape(exported.scores.shape), exported.scores, rtol=1e-4, atol=1e-5)
        return
    got = [[one["probability"] for one in sorted(p["top"], key=lambda one: one["index"])] for p in predictions]
    np.testing.assert_allclose(got, probabilities(exported), rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_gradients_explain_it_completely(name: str, added: Added, served: httpx.Client):
    exported = added.exported[name]
    (explanation,) = answered(served, name, "explain", exported.instances[:1])["explanations"]
    assert explanation["method"] == "integrated_gradients"
    assert explanation["completeness_error"] <= 0.01
    assert explanation["parity_error"] <= 1e-4
    assert explanation["explained"] == ("value" if exported.kind == "values" else "logit")


@pytest.mark.parametrize("name", ["torch-fixed", "keras-cnn", "keras-fixed"])
def test_probability_and_logit_can_both_be_explained(name: str, added: Added, served: httpx.Client):
    """Of a graph that ends in its activation; F(x) by the textbook from what the framework answers."""
    exported = added.exported[name]
    chance = probabilities(exported)[0]
    target = int(chance.argmax())
    for explained in ("probability", "logit"):
        (one,) = answered(served, name, "explain", exported.instances[:1], explained=explained)["explanations"]
        assert one["target"]["index"] == target
        if explained == "probability":
            assert one["instance_output"] == pytest.approx(chance[target], abs=1e-5)
        elif len(chance) == 2:
            assert one["instance_output"] == pytest.approx(np.log(chance[target] / (1 - chance[target])), rel=1e-3)
    assert "explained=probability" in " ".join(added.reports[name].split())


@pytest.mark.parametrize("name", ["logistic", "pipeline", "svm"])
def test_tables_of_other_models_are_explained_column_by_column(name: str, added: Added, served: httpx.Client):
    """By gradients where the twin has the operators, else by asking again: the manifest's method is one that works."""
    instance = added.exported[name].instances[0]
    (explanation,) = answered(served, name, "explain", [instance])["explanations"]
    assert len(explanation["attributions"]) == len(instance)
    assert explanation["explained"] == "probability"


@pytest.mark.parametrize("name", TREES)
def test_what_has_no_gradient_is_explained_by_asking_again(name: str, added: Added, served: httpx.Client):
    exported = added.exported[name]
    refused = served.post(f"/v1/models/{name}:explain", json={"instances": exported.instances[:1], "parameters": {"method": "saliency"}})
    assert refused.status_code == 400
    assert refused.json()["code"] in ("not_explainable", "parity")
    (explanation,) = answered(served, name, "explain", exported.instances[:1])["explanations"]
    assert len(explanation["attributions"]) == len(exported.instances[0])
    assert explanation["method"] in added.reports[name]
    assert "not with gradients" in added.reports[name]


@pytest.mark.parametrize("name", ["xgboost", "lightgbm"])
def test_missing_values_are_values_where_trees_take_them(name: str, added: Added):
    assert any(None in row for row in added.exported[name].instances)
    assert manifest(added, name).inputs[0].allow_missing
    assert "missing values" in added.reports[name]


def test_missing_values_are_errors_elsewhere(served: httpx.Client):
    response = served.post("/v1/models/forest:predict", json={"instances": [[1.0, None, 2.0, 3.0]]})
    assert response.status_code == 400
    assert "missing" in response.json()["error"]


@pytest.mark.parametrize("name", SKLEARN)
def test_a_zipmap_becomes_a_tensor_and_its_labels(name: str, added: Added):
    first, second = manifest(added, name).outputs
    assert (first.kind, first.shape, first.activated) == ("classes", (3,), True)
    assert first.labels == (("setosa", "versicolor", "virginica") if name == "forest" else ("0", "1", "2"))
    assert (second.name, second.kind, second.dtype) == ("output_label", "tensor", "string" if name == "forest" else "int64")
    assert "ZipMap" in added.reports[name]


def test_columns_have_the_names_given(added: Added, served: httpx.Client):
    assert [c.name for c in manifest(added, "regressor").inputs[0].table.columns] == ["sepal length", "sepal width", "petal length"]  # type: ignore[union-attr]
    row = dict(zip(("petal length", "sepal width", "sepal length"), (1.4, 3.5, 5.1), strict=True))
    (by_name,) = answered(served, "regressor", "predict", [row])["predictions"]
    (by_place,) = answered(served, "regressor", "predict", [[5.1, 3.5, 1.4]])["predictions"]
    assert by_name == by_place


@pytest.mark.parametrize(
    ("name", "layout", "size"),
    [("torch-old", "NCHW", 16), ("torch-dynamo", "NCHW", 16), ("torch-bytes", "NHWC", 16), ("keras-cnn", "NHWC", 12)],
)
def test_pictures_are_seen_as_such(name: str, layout: str, size: int, added: Added):
    policy = manifest(added, name).inputs[0].image
    assert policy is not None
    assert (policy.layout, policy.height, policy.width, policy.channels) == (layout, size, size, 3)


def test_pixels_become_bytes_inside_the_graph(added: Added):
    """What is sent is what is explained: the input takes 0 to 255."""
    for name in ("torch-old", "torch-dynamo"):
        assert manifest(added, name).inputs[0].range == (0.0, 255.0)
    assert "(pixel / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]" in " ".join(added.reports["torch-old"].split())
    assert "--scale 255" in " ".join(added.reports["keras-cnn"].split())  # nobody said: the report asks


@pytest.mark.parametrize(("name", "batch"), [("torch-fixed", 1), ("keras-fixed", 1)])
def test_a_fixed_batch_is_freed_where_answers_stay(name: str, batch: int, added: Added):
    assert manifest(added, name).batching.rows_independent
    assert f"batch size {batch}" in added.reports[name]


def test_rows_that_depend_on_each_other_never_share_a_batch(added: Added):
    assert not manifest(added, "torch-batchwise").batching.rows_independent
    assert "depends on the rows beside it" in added.reports["torch-batchwise"]
    assert manifest(added, "torch-old").batching.rows_independent


def test_rows_that_depend_on_each_other_are_explained_one_at_a_time(added: Added, served: httpx.Client):
    """The points of a path are rows too: integrated gradients by torch's autograd, each point alone, against ours."""
    instance = added.exported["torch-batchwise"].instances[0]
    x, y = (torch.tensor([instance[name]]) for name in ("x", "y"))
    (explanation,) = answered(served, "torch-batchwise", "explain", [instance], target=2, steps=50)["explanations"]
    total = torch.zeros(1, 3)
    for place in (torch.arange(200) + 0.5) / 200:
        point = (place * x).requires_grad_()
        (gradient,) = torch.autograd.grad(Batchwise()(point, place * y)[0, 2], point)
        total += gradient / 200
    np.testing.assert_allclose(explanation["attributions"]["x"], (total * x)[0], rtol=1e-3, atol=1e-5)


def test_discrete_inputs_are_attributed_where_they_become_floats(added: Added, served: httpx.Client):
    for name in ("torch-bytes", "keras-lstm"):
        (at,) = manifest(added, name).explain.attribute_at.values()  # type: ignore[union-attr]
        assert at in added.reports[name]
        instance = added.exported[name].instances[0]
        (explanation,) = answered(served, name, "explain", [instance])["explanations"]
        assert np.shape(explanation["attributions"]) == np.shape(instance)


def test_golden_requests_are_answered_at_every_start(added: Added):
    """What ONNX Runtime answered in the trial; the server refuses to serve what answers differently."""
    assert all((added.models / name / "1" / "golden.json").is_file() for name in ("logistic", "torch-old", "regressor"))

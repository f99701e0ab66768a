"""Open Inference Protocol V2 over the live server: tritonclient is the judge, ONNX Runtime has the expected tensors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
import tritonclient.http as triton
from onnx import TensorProto as T
from onnx import helper
from support import BUNDLES, Bundle, Row, Server, bundle_named, is_error, serving

TABLES = bundle_named("wine-perceptron")
TEXTS = bundle_named("sst2-gru")
WIRE = {"float32": "FP32", "int64": "INT64"}


@pytest.fixture(scope="module")
def judge(server: Server) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(server.url.removeprefix("http://"), network_timeout=70, connection_timeout=70)
    yield client
    client.close()


def batch(bundle: Bundle, rows: int = 3) -> Row:
    """`rows` rows of one shape, stacked."""
    first = bundle.row(0)
    if any(i.text for i in bundle.manifest.inputs):
        return {name: np.stack([tensor] * rows) for name, tensor in first.items()}
    return {name: np.stack([bundle.row(number)[name] for number in range(rows)]) for name in first}


def requested(feeds: Row, binary: bool) -> list[triton.InferInput]:
    inputs = []
    for name, array in feeds.items():
        tensor = triton.InferInput(name, array.shape, WIRE[str(array.dtype)])
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    return inputs


def in_json(feeds: Row, **fields: Any) -> dict[str, Any]:
    inputs = [{"name": n, "shape": a.shape, "datatype": WIRE[str(a.dtype)], "data": a.ravel().tolist()} for n, a in feeds.items()]
    return {"inputs": inputs} | fields


# ----------------------------------------------------------------------------------------------------------------- metadata


def test_the_server_and_its_models_are_ready(judge: triton.InferenceServerClient):
    assert judge.is_server_live()
    assert judge.is_server_ready()
    about = judge.get_server_metadata()
    assert about["name"] == "whyserve"
    assert "binary_tensor_data" in about["extensions"]
    for bundle in BUNDLES:
        assert judge.is_model_ready(bundle.name)
        assert judge.is_model_ready(bundle.name, bundle.version)
    assert not judge.is_model_ready("nope")


def test_metadata_is_what_the_graph_declares(judge: triton.InferenceServerClient, bundle: Bundle):
    about = judge.get_model_metadata(bundle.name)
    assert (about["name"], about["versions"]) == (bundle.name, [bundle.version])
    names = {"tensor(float)": "FP32", "tensor(int64)": "INT64"}
    for kind, nodes in (("inputs", bundle.session.get_inputs()), ("outputs", bundle.session.get_outputs())):
        expected = {node.name: (names[node.type], [size if isinstance(size, int) else -1 for size in node.shape]) for node in nodes}
        assert {tensor["name"]: (tensor["datatype"], tensor["shape"]) for tensor in about[kind]} == expected
    assert judge.get_model_metadata(bundle.name, bundle.version)["name"] == bundle.name


def test_the_index_names_every_version(judge: triton.InferenceServerClient):
    index = {(entry["name"], entry["version"]): entry for entry in judge.get_model_repository_index()}
    assert index.keys() == {(bundle.name, bundle.version) for bundle in BUNDLES}
    assert {entry["state"] for entry in index.values()} == {"READY"}


# -------------------------------------------------------------------------------------------------------------------- infer


@pytest.mark.parametrize("sent", ["binary", "json"])
@pytest.mark.parametrize("wanted", ["binary", "json", "all"])
def test_infer_is_what_onnx_runtime_computes(judge: triton.InferenceServerClient, bundle: Bundle, sent: str, wanted: str):
    feeds = batch(bundle)
    names = [output.name for output in bundle.session.get_outputs()]
    outputs = None if wanted == "all" else [triton.InferRequestedOutput(name, binary_data=wanted == "binary") for name in names]
    answer = judge.infer(bundle.name, requested(feeds, sent == "binary"), outputs=outputs, request_id="mine")
    assert answer.get_response()["id"] == "mine"
    assert answer.get_response()["model_version"] == bundle.version
    for name, expected in zip(names, bundle.session.run(None, feeds), strict=True):
        got = answer.as_numpy(name)
        assert got.dtype == expected.dtype
        # batches of this server and single runs of the judge may add up in another order
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 if bundle.manifest.outputs[0].kind != "image" else 1e-2)


def test_lengths_left_out_are_the_whole_rows(judge: triton.InferenceServerClient):
    feeds = batch(TEXTS)
    (expected,) = TEXTS.session.run(None, feeds)
    answer = judge.infer(TEXTS.name, requested({"tokens": feeds["tokens"]}, True))
    np.testing.assert_allclose(answer.as_numpy("logits"), expected, rtol=1e-4, atol=1e-5)


def test_compressed_requests(judge: triton.InferenceServerClient):
    feeds = batch(TABLES)
    (expected,) = TABLES.session.run(None, feeds)
    for algorithm in ("gzip", "deflate"):
        answer = judge.infer(TABLES.name, requested(feeds, True), request_compression_algorithm=algorithm)
        np.testing.assert_allclose(answer.as_numpy("logits"), expected, rtol=1e-5)


def test_a_body_of_bare_bytes(client: httpx.Client):
    """Triton's raw form: the header's length is 0, the body one row."""
    row = TABLES.row()["row"]
    response = client.post(f"/v2/models/{TABLES.name}/infer", content=row.tobytes(), headers={"inference-header-content-length": "0"})
    length = int(response.headers["inference-header-content-length"])
    assert json.loads(response.content[:length])["outputs"][0]["shape"] == [1, 3]
    np.testing.assert_allclose(np.frombuffer(response.content[length:], np.float32), TABLES.run({"row": row})["logits"], rtol=1e-5)


# ------------------------------------------------------------------------------------------------------------------ explain


def test_explain_adds_up(client: httpx.Client, bundle: Bundle):
    feeds = batch(bundle, 2)
    response = client.post(f"/v2/models/{bundle.name}/explain", json=in_json(feeds, id="x1"))
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["id"], answer["model_name"]) == ("x1", bundle.name)
    found = {t["name"]: np.array(t["data"], float).reshape(t["shape"]) for t in answer["outputs"]}
    parts = {name: array for name, array in found.items() if name.startswith("attributions")}
    sent = [i.name for i in bundle.manifest.inputs]
    assert parts.keys() == ({"attributions"} if len(sent) == 1 else {f"attributions.{name}" for name in sent})
    classes = bundle.manifest.outputs[0].kind == "classes"
    for number in range(2):
        row = {name: array[number] for name, array in feeds.items()}
        target = int(bundle.probabilities(row).argmax()) if classes else None
        f_x, f_b = bundle.explained(row, target)
        total = sum(float(array[number].sum()) for array in parts.values())
        assert abs(total - (f_x - f_b)) <= 0.0101 * max(abs(f_x - f_b), 0.01 * max(1, abs(f_x)))
        assert found["instance_output"][number] == pytest.approx(f_x, rel=1e-4, abs=1e-4)
        assert found["baseline_output"][number] == pytest.approx(f_b, rel=1e-4, abs=1e-4)
        if classes:
            assert found["predicted_index"][number] == found["target_index"][number] == target
    for name, array in parts.items():
        declared = sent[0] if name == "attributions" else name.partition(".")[2]
        assert array.shape == feeds[declared].shape
    said = json.loads(answer["parameters"]["explanations"])
    assert [explanation["method"] for explanation in said] == ["integrated_gradients"] * 2


def test_explain_in_binary_with_parameters(client: httpx.Client):
    feeds = batch(TABLES, 1)
    blob = feeds["row"].tobytes()
    tensor = {"name": "row", "shape": [1, 11], "datatype": "FP32", "parameters": {"binary_data_size": len(blob)}}
    parameters = {
        "method": "saliency",
        "target": "very good",
        "timeout": 30_000_000,
        "sequence_id": 3,
        "priority": 1,
        "binary_data_output": True,
    }
    header = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
    response = client.post(
        f"/v2/models/{TABLES.name}/explain", content=header + blob, headers={"inference-header-content-length": str(len(header))}
    )
    assert response.status_code == 200, response.text
    length = int(response.headers["inference-header-content-length"])
    answer = json.loads(response.content[:length])
    sizes = {output["name"]: output["parameters"]["binary_data_size"] for output in answer["outputs"]}
    assert sizes["attributions"] == 11 * 4
    assert sum(sizes.values()) == len(response.content) - length
    (said,) = json.loads(answer["parameters"]["explanations"])
    assert said["target"] == {"label": "very good", "index": 2}
    assert said["completeness_error"] is None


# ---------------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("verb", ["infer", "explain"])
def test_bad_requests(client: httpx.Client, verb: str):
    url = f"/v2/models/{TABLES.name}/{verb}"
    good = in_json(batch(TABLES, 1))
    (tensor,) = good["inputs"]

    def changed(**fields: Any) -> dict[str, Any]:
        return {"inputs": [tensor | fields]}

    is_error(client.post(url, content=b"{"), 400, "JSON")
    is_error(client.post(url, content=b""), 400)
    is_error(client.post(url, json={}), 400, "inputs")
    is_error(client.post(url, json={"inputs": []}), 400)
    is_error(client.post(url, json=changed(name="nope")), 400, "nope", "row")
    is_error(client.post(url, json=changed(datatype="FP12")), 400, "FP12", "FP32")
    is_error(client.post(url, json=changed(shape=[1, 12])), 400, "11")
    is_error(client.post(url, json=changed(shape=[1, 11, 1])), 400)
    is_error(client.post(url, json=changed(shape=[-1, 11])), 400)
    is_error(client.post(url, json=changed(shape=[0, 11], data=[])), 400)
    is_error(client.post(url, json=changed(shape=[2**40, 11])), 400)
    is_error(client.post(url, json=changed(data=[[1, 2], [3]])), 400)
    is_error(client.post(url, json=changed(data=["NaN", *[1.0] * 10])), 400, "finite")
    is_error(client.post(url, json={"inputs": [tensor, tensor]}), 400, "twice")
    is_error(client.post(url, json=good | {"outputs": [{"name": "nope"}]}), 400, "nope")
    is_error(client.post(url, json=in_json({"row": np.repeat(batch(TABLES, 1)["row"], 257, 0)})), 413, "256")
    for length in ("-1", "x", "99999999", "9" * 5000):
        is_error(client.post(url, json=good, headers={"inference-header-content-length": length}), 400)
    is_error(client.post(f"/v2/models/nope/{verb}", json=good), 404, "nope")
    is_error(client.post(f"/v2/models/{TABLES.name}/versions/9/{verb}", json=good), 404)


@pytest.mark.parametrize("lengths", [0, -1, 99])
def test_lengths_that_the_rows_have_not(client: httpx.Client, lengths: int):
    feeds = batch(TEXTS, 1) | {"lengths": np.array([lengths], np.int64)}
    is_error(client.post(f"/v2/models/{TEXTS.name}/infer", json=in_json(feeds)), 400, str(lengths), "expected 1 to")


def test_bad_parameters_of_explain(client: httpx.Client):
    url = f"/v2/models/{TABLES.name}/explain"
    feeds = batch(TABLES, 1)
    for parameters, word in (({"method": "magic"}, "magic"), ({"nope": 1}, "nope"), ({"targets": "[0,1]"}, "2 targets")):
        is_error(client.post(url, json=in_json(feeds, parameters=parameters)), 400, word)
    never_asked_before = {"timeout": 1, "steps": 71}  # what is known is answered in no time
    is_error(client.post(url, json=in_json(feeds, parameters=never_asked_before)), 504)


def test_an_error_as_tritonclient_shows_it(judge: triton.InferenceServerClient):
    with pytest.raises(triton.InferenceServerException, match="no model named 'nope'"):
        judge.infer("nope", requested(batch(TABLES), True))


async def test_an_input_that_no_gradient_reaches_has_no_attributions(tmp_path: Path):
    nodes = [helper.make_node("Neg", ["x"], ["minus"]), helper.make_node("Where", ["keep", "x", "minus"], ["y"])]
    values = [helper.make_tensor_value_info(name, kind, ["n", 2]) for name, kind in (("x", T.FLOAT), ("keep", T.BOOL), ("y", T.FLOAT))]
    graph = helper.make_graph(nodes, "choice", values[:2], values[2:])
    (tmp_path / "choice" / "1").mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "choice" / "1" / "model.onnx")
    inputs = [
        {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [2.0, 3.0]},
        {"name": "keep", "datatype": "BOOL", "shape": [1, 2], "data": [True, False]},
    ]
    async with serving(models=tmp_path, explainers=1) as client:
        body = {"inputs": inputs, "parameters": {"method": "input_x_gradient", "target": "[1]"}}
        answer = (await client.post("/v2/models/choice/explain", json=body)).json()
    outputs = {o["name"]: o["data"] for o in answer["outputs"]}
    assert outputs["attributions"] == [0.0, -3.0]

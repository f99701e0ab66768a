"""Loading and unloading models while the server serves, by tritonclient with an administrator's key."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
import yaml
from support import Bundle, Server, bundle_named, is_error, started

TABLES = bundle_named("wine-perceptron")
BODY = {"instances": [TABLES.instance()]}
BOSS = {"X-API-Key": "boss"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("repository")
    shutil.copytree(TABLES.folder, models / TABLES.name / "1")
    return models


@pytest.fixture(scope="module")
def administered(folder: Path) -> Iterator[Server]:
    with started("--models", str(folder), "--explainers", "0", "--admin-keys", "boss") as server:
        yield server


@pytest.fixture(scope="module")
def judge(administered: Server) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(administered.url.removeprefix("http://"))
    yield client
    client.close()


def predict(server: Server, path: str = TABLES.v1) -> httpx.Response:
    return httpx.post(f"{server.url}{path}:predict", json=BODY)


def copy(bundle: Bundle, models: Path, name: str, version: int) -> None:
    """A bundle under another name and version, its manifest saying so."""
    target = models / name / str(version)
    shutil.copytree(bundle.folder, target)
    document = yaml.safe_load((target / "model.yaml").read_text())
    (target / "model.yaml").write_text(yaml.safe_dump(document | {"name": name, "version": version}))


def test_unload_and_load(administered: Server, judge: triton.InferenceServerClient):
    assert predict(administered).status_code == 200
    judge.unload_model(TABLES.name, headers=BOSS)
    is_error(predict(administered), 503, "unloaded")
    assert not judge.is_model_ready(TABLES.name)
    (entry,) = judge.get_model_repository_index()
    assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", "unloaded")
    assert not judge.is_server_ready()  # nothing serves
    judge.load_model(TABLES.name, headers=BOSS)
    assert predict(administered).status_code == 200
    assert judge.is_server_ready()


def test_a_new_version_becomes_the_default_and_a_removed_one_is_forgotten(
    administered: Server, judge: triton.InferenceServerClient, folder: Path
):
    copy(TABLES, folder, TABLES.name, 2)
    assert predict(administered).json()["model_version"] == "1"
    judge.load_model(TABLES.name, headers=BOSS)
    assert predict(administered).json()["model_version"] == "2"
    assert predict(administered, f"{TABLES.v1}/versions/1").json()["model_version"] == "1"
    assert judge.get_model_metadata(TABLES.name)["versions"] == ["1", "2"]
    shutil.rmtree(folder / TABLES.name / "2")
    judge.load_model(TABLES.name, headers=BOSS)
    assert predict(administered).json()["model_version"] == "1"
    is_error(predict(administered, f"{TABLES.v1}/versions/2"), 404, "no version '2'")


def test_a_model_that_came_after_the_start(administered: Server, judge: triton.InferenceServerClient, folder: Path):
    with pytest.raises(triton.InferenceServerException, match="no model named"):
        judge.load_model("late", headers=BOSS)
    copy(TABLES, folder, "late", 1)
    judge.load_model("late", headers=BOSS)
    probabilities = TABLES.probabilities(TABLES.row())
    assert predict(administered, "/v1/models/late").json()["predictions"][0]["probability"] == pytest.approx(probabilities.max(), abs=1e-5)
    judge.unload_model("late", headers=BOSS)
    shutil.rmtree(folder / "late")


def test_a_broken_new_version_leaves_the_old_one_serving(administered: Server, judge: triton.InferenceServerClient, folder: Path):
    copy(TABLES, folder, TABLES.name, 3)
    (folder / TABLES.name / "3" / "model.onnx").write_bytes(b"no onnx")
    judge.load_model(TABLES.name, headers=BOSS)
    assert predict(administered).json()["model_version"] == "1"
    is_error(predict(administered, f"{TABLES.v1}/versions/3"), 503, "sha256")
    shutil.rmtree(folder / TABLES.name / "3")
    judge.load_model(TABLES.name, headers=BOSS)


def test_answers_while_a_model_is_loaded_anew(administered: Server, judge: triton.InferenceServerClient):
    tensor = triton.InferInput("row", [1, 11], "FP32")
    tensor.set_data_from_numpy(TABLES.row()["row"][None].astype(np.float32))
    for _ in range(3):
        judge.load_model(TABLES.name, headers=BOSS)
        np.testing.assert_allclose(judge.infer(TABLES.name, [tensor]).as_numpy("logits")[0], TABLES.run(TABLES.row())["logits"], rtol=1e-5)


@pytest.mark.parametrize("verb", ["load", "unload"])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"parameters":{"config":"{}"}}', "config"),
        (b'{"parameters":{"file:1/model.onnx":"AAAA"}}', "file:"),
        (b'{"parameters":5}', "object"),
        (b'{"parameters":[1]}', "object"),
        (b"[", "object"),
        (b"[1]", "object"),
        (b"[" * 100_000, "object"),
    ],
)
def test_models_come_from_the_disk_only(administered: Server, verb: str, body: bytes, words: str):
    url = f"{administered.url}/v2/repository/models/{TABLES.name}/{verb}"
    is_error(httpx.post(url, content=body, headers=BOSS), 400, words)
    assert predict(administered).status_code == 200


def test_an_unknown_model(administered: Server):
    for verb in ("load", "unload"):
        for name in ("nope", "..%2f..%2fetc", "%2e%2e"):
            is_error(httpx.post(f"{administered.url}/v2/repository/models/{name}/{verb}", headers=BOSS), 404)


def test_no_key_and_wrong_key(administered: Server):
    for verb in ("load", "unload"):
        url = f"{administered.url}/v2/repository/models/{TABLES.name}/{verb}"
        is_error(httpx.post(url), 401)
        is_error(httpx.post(url, headers={"authorization": "Bearer nope"}), 403)

"""`whyserve verify`: the committed bundles pass, and what is wrong with a bundle is found and said."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import onnx
import orjson
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from support import BUNDLES, MODELS

from service.cli import main
from service.explain.cancel import Token
from service.explain.loading import load
from service.explain.quality.randomise import layers, shuffled, survivals
from service.manifest import MODEL_FILE, Golden, GoldenCase, Input, Manifest, Output, sha256_of
from service.repository.bundle import Location, read_bundle
from service.verifying.report import State
from service.verifying.verify import verified

torch.set_num_threads(1)


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda bundle: bundle.name)
def test_every_committed_bundle_passes(bundle) -> None:
    report = verified(MODELS, bundle.name, bundle.version, n=1)
    assert not report.failed, report.text()
    states = {check.subject: check.state for check in report.checks}
    for subject in ("files", "graph", "rows", "golden", "twin", "methods"):
        assert states[subject] is State.GOOD, report.text()
    assert {"trust 1/1", "randomised"} <= states.keys()


def test_the_command_prints_a_report_and_its_json(capsys) -> None:
    assert main(["verify", "wine-perceptron", "--models", str(MODELS), "--n", "1"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("wine-perceptron version 1\n")
    assert text.rstrip().endswith("nothing failed")
    assert main(["verify", "wine-perceptron/1", "--models", str(MODELS), "--n", "1", "--json"]) == 0
    report = orjson.loads(capsys.readouterr().out)
    assert report["failed"] is False
    (trust,) = [check for check in report["checks"] if check["subject"] == "trust 1/1"]
    assert trust["figures"]["quality"]["deletion"]["area"] >= 0


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    shutil.copytree(MODELS / "wine-perceptron", tmp_path / "wine-perceptron")
    return tmp_path


def refused(models: Path, capsys) -> str:
    assert main(["verify", "wine-perceptron", "--models", str(models), "--n", "1"]) == 1
    return " ".join(capsys.readouterr().out.split())


def test_a_changed_file_fails_by_its_hash(copied, capsys) -> None:
    file = copied / "wine-perceptron" / "1" / MODEL_FILE
    file.write_bytes(file.read_bytes() + b"\0")
    text = refused(copied, capsys)
    assert "FAILED: model.onnx is not the file of the manifest: sha256" in text
    assert text.endswith("failed: files")


def rewrite(folder: Path, **changes) -> None:
    """The manifest with the hashes that the files have now."""
    manifest = Manifest.read(folder)
    manifest.model_copy(update={"files": {name: sha256_of(folder / name) for name in manifest.files}} | changes).write(folder)


def test_other_weights_fail_by_the_golden_requests(copied, capsys) -> None:
    folder = copied / "wine-perceptron" / "1"
    model = onnx.load(folder / MODEL_FILE)
    onnx.save(shuffled(model, [t.name for t in model.graph.initializer], 0), folder / MODEL_FILE)
    rewrite(folder)
    assert "FAILED: the server refuses it: golden request 0 is answered differently" in refused(copied, capsys)


def test_a_golden_answer_that_is_wrong_fails(copied, capsys) -> None:
    folder = copied / "wine-perceptron" / "1"
    first = Golden.read(folder).cases[0]
    wrong = first.model_copy(update={"expected": [{**first.expected[0], "label": "none"}, *first.expected[1:]]})
    assert isinstance(wrong, GoldenCase)
    Golden(cases=(wrong,)).write(folder)
    rewrite(folder)
    assert "expected 'none'" in refused(copied, capsys)


def test_rows_that_depend_on_each_other_fail_where_the_manifest_denies_it(tmp_path) -> None:
    folder = tmp_path / "mixed" / "1"
    folder.mkdir(parents=True)
    shape = ["n", 3]
    nodes = [helper.make_node("Softmax", ["x"], ["y"], axis=0)]
    values = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name in ("x", "y")]
    graph = helper.make_graph(nodes, "mixed", *values)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / MODEL_FILE)
    Manifest(
        name="mixed",
        version=1,
        task="other",
        inputs=(Input(name="x", codec="tensor", dtype="float32", shape=(3,)),),
        outputs=(Output(name="y", kind="tensor", dtype="float32", shape=(3,)),),
        files={MODEL_FILE: sha256_of(folder / MODEL_FILE)},
    ).write(folder)
    report = verified(tmp_path, "mixed", None, n=1)
    (rows,) = [check for check in report.checks if check.subject == "rows"]
    assert rows.state is State.FAILED
    assert "depends on the rows beside it, and the manifest says it does not" in rows.words
    rewrite(folder, batching=Manifest.read(folder).batching.model_copy(update={"rows_independent": False}))
    report = verified(tmp_path, "mixed", None, n=1)
    (rows,) = [check for check in report.checks if check.subject == "rows"]
    assert rows.state is State.NOTE


def test_a_bare_model_is_verified_as_far_as_that_goes(tmp_path) -> None:
    folder = tmp_path / "bare" / "2"
    folder.mkdir(parents=True)
    shutil.copy(MODELS / "wine-mlp" / "1" / MODEL_FILE, folder)
    report = verified(tmp_path, "bare", None, n=2)
    assert report.version == 2
    assert not report.failed, report.text()
    assert "a bare model.onnx" in report.text()
    assert "plausible random inputs" in " ".join(report.text().split())


def test_a_file_that_is_no_model_fails(tmp_path) -> None:
    folder = tmp_path / "broken" / "1"
    folder.mkdir(parents=True)
    (folder / MODEL_FILE).write_bytes(b"not a model")
    report = verified(tmp_path, "broken", None, n=1)
    assert report.failed
    assert "no ONNX file" in report.text()


@pytest.mark.parametrize(("model", "words"), [("nobody", "no model named 'nobody'"), ("wine-mlp/7", "has no version 7")])
def test_a_model_that_is_not_there_is_an_error_in_words(model, words, capsys) -> None:
    assert main(["verify", model, "--models", str(MODELS)]) == 2
    assert words in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------- randomised weights


def test_layers_come_from_the_output_backwards_and_shuffling_keeps_their_values() -> None:
    model = onnx.load(MODELS / "mnist-cnn" / "1" / MODEL_FILE)
    found = layers(model, ["image"])
    assert [names[0] for names in found[:2]] == ["classes.weight", "hidden.weight"]
    assert len(found) == 7
    before, after = ({t.name: numpy_helper.to_array(t) for t in m.graph.initializer} for m in (model, shuffled(model, found[0], seed=1)))
    assert (np.sort(before["classes.weight"], None) == np.sort(after["classes.weight"], None)).all()
    assert not (before["classes.weight"] == after["classes.weight"]).all()
    assert all((before[name] == after[name]).all() for name in before if name != "classes.weight")


def test_guided_backpropagation_is_named_as_indifferent_and_integrated_gradients_is_not() -> None:
    bundle = read_bundle(Location("mnist-cnn", 1, MODELS / "mnist-cnn" / "1"))
    instances = [dict(zip(["image"], [row], strict=True)) for row in _digits()]
    found = {
        one.method: one
        for one in survivals(bundle, load(bundle), instances, ["guided_backprop", "integrated_gradients"], Token(60), 64 << 20)
    }
    assert found["guided_backprop"].indifferent
    assert not found["integrated_gradients"].indifferent
    assert not found["integrated_gradients"].survives
    assert dataclasses.replace(found["integrated_gradients"], all_layers=0.8).survives


def _digits() -> list[np.ndarray]:
    pixels = np.load(Path(__file__).parents[2] / "data" / "mnist_1000.npz")["test_pixels"]
    return [pixels[i].reshape(1, 1, 28, 28).astype(np.float32) for i in range(2)]

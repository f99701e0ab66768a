"""Texts: ids to embeddings, masks made inside the graph, and tokenizers that don't fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from exporters import Words, add, exported_old
from support import serving
from tokenizers import Tokenizer, models, pre_tokenizers

from service.cli import main
from service.manifest import Manifest

VOCABULARY = {"[PAD]": 0, "[UNK]": 1, "a": 2, "good": 3, "bad": 4, "film": 5, "not": 6}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    file = tmp_path_factory.mktemp("tokenizer") / "any-name.json"
    made.save(str(file))
    return file


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = ("input_ids", "attention_mask", "token_type_ids")
    ids = torch.ones(2, 5, dtype=torch.int64)
    axes = {name: {0: "n", 1: "t"} for name in names} | {"scores": {0: "n"}}
    return exported_old(Words(), (ids, ids, 0 * ids), tmp_path_factory.mktemp("bert") / "bert.onnx", names, axes)


async def test_a_text_is_all_it_takes(bert: Path, tokenizer: Path, tmp_path: Path):
    report = add(bert, "--name", "bert", "--models", tmp_path, "--tokenizer", tokenizer, "--labels", "bad,good")
    manifest = Manifest.read(tmp_path / "bert" / "1")
    (declared,) = manifest.inputs
    assert (declared.name, declared.codec, declared.dtype, declared.range) == ("input_ids", "text", "int64", (0.0, 8.0))
    assert manifest.explain is not None
    assert declared.name in manifest.explain.attribute_at
    for made_inside in ("attention_mask", "token_type_ids"):
        assert f"{made_inside!r} is made inside the graph" in " ".join(report.split())
    ids = torch.tensor([[VOCABULARY[word] for word in ("not", "a", "good", "film")]])
    with torch.inference_mode():
        wanted = torch.softmax(Words().eval()(ids, torch.ones_like(ids), torch.zeros_like(ids)), -1)[0].tolist()
    async with serving(models=tmp_path) as client:
        answer = await client.post("/v1/models/bert:predict", content="not a good film", headers={"content-type": "text/plain"})
    got = {one["label"]: one["probability"] for one in answer.json()["predictions"][0]["top"]}
    assert [got["bad"], got["good"]] == pytest.approx(wanted, abs=1e-5)


def test_ids_without_a_tokenizer_are_tensors(bert: Path, tmp_path: Path):
    report = add(bert, "--name", "bert", "--models", tmp_path, "--task", "classification")
    manifest = Manifest.read(tmp_path / "bert" / "1")
    assert [(i.name, i.codec, i.range) for i in manifest.inputs] == [
        ("input_ids", "tensor", (0.0, 8.0)),
        ("attention_mask", "tensor", None),
        ("token_type_ids", "tensor", (0.0, 1.0)),
    ]
    assert set(manifest.explain.attribute_at) == {"input_ids", "token_type_ids"}  # type: ignore[union-attr]
    assert "is a mask" in report


def test_the_place_can_be_named_or_refused(bert: Path, tmp_path: Path):
    nowhere = ("--attribute-at", "token_type_ids=none")
    add(bert, "--name", "bert", "--models", tmp_path, "--task", "classification", *nowhere)
    assert set(Manifest.read(tmp_path / "bert" / "1").explain.attribute_at) == {"input_ids"}  # type: ignore[union-attr]


TWO_TABLES = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (int64[N, T] ids) => (float[N, T, 2] y)
<float[5, 2] one = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, float[5, 2] other = {1, 0, 1, 0, 1, 0, 1, 0, 1, 0}>
{
    a = Gather (one, ids)
    b = Gather (other, ids)
    y = Mul (a, b)
}
"""
FIXED_LENGTH = TWO_TABLES.replace("[N, T", "[N, 4")


@pytest.mark.parametrize(
    ("graph", "options", "words"),
    [
        (TWO_TABLES, (), ("2 places", "a (Gather), b (Gather)", "--attribute-at ids=a")),
        (TWO_TABLES, ("--attribute-at", "ids=c"), ("makes no such tensor", "a (Gather), b (Gather)")),
        (TWO_TABLES, ("--attribute-at", "idx=a"), ("no such input", "ids")),
        (TWO_TABLES, ("--attribute-at", "ids"), ("INPUT=TENSOR",)),
        (TWO_TABLES, ("--input", "text"), ("--tokenizer FILE",)),
        (TWO_TABLES, ("--tokenizer", "{tokenizer}"), ("7 tokens", "table 5")),
        (FIXED_LENGTH, ("--tokenizer", "{tokenizer}"), ("exactly 4 tokens",)),
        (TWO_TABLES, ("--tokenizer", "/nonexistent"), ("No such file",)),
        (TWO_TABLES, ("--tokenizer", "{no_tokenizer}"), ("no Hugging Face tokenizer.json",)),
    ],
)
def test_what_is_asked_for(
    graph: str, options: tuple[str, ...], words: tuple[str, ...], tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "no.json").write_text(json.dumps({"a": 1}))
    onnx.save(onnx.parser.parse_model(graph), str(tmp_path / "m.onnx"))
    filled = [option.format(tokenizer=tokenizer, no_tokenizer=tmp_path / "no.json") for option in options]
    assert main(["add", str(tmp_path / "m.onnx"), "--name", "m", "--models", str(tmp_path / "models"), *filled]) == 2
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1
    for word in words:
        assert word in said, said
    assert not list((tmp_path / "models").glob("*/*")), "nothing is left behind"


def test_one_place_of_several(tmp_path: Path):
    onnx.save(onnx.parser.parse_model(TWO_TABLES), str(tmp_path / "m.onnx"))
    add(tmp_path / "m.onnx", "--name", "m", "--models", tmp_path / "models", "--attribute-at", "ids=b")
    assert Manifest.read(tmp_path / "models" / "m" / "1").explain.attribute_at == {"ids": "b"}  # type: ignore[union-attr]


def test_strings_are_served_and_said_to_have_no_gradient(tmp_path: Path):
    graph = """
    <ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 2]>
    agraph (string[N, 1] town, float[N, 1] size) => (float[N, 1] price)
    {
        code = ai.onnx.ml.LabelEncoder <keys_strings = ["Rome", "Oslo"], values_floats = [2.0, 5.0], default_float = 0.0> (town)
        price = Mul (code, size)
    }
    """
    onnx.save(onnx.parser.parse_model(graph), str(tmp_path / "m.onnx"))
    report = " ".join(add(tmp_path / "m.onnx", "--name", "m", "--models", tmp_path / "models").split())
    assert "no attributions for town" in report
    manifest = Manifest.read(tmp_path / "models" / "m" / "1")
    assert [(i.name, i.dtype) for i in manifest.inputs] == [("town", "string"), ("size", "float32")]
    assert np.shape(manifest.outputs[0].shape) == (1,)

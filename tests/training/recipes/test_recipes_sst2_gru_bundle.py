"""The committed bundle, used as a stranger would: its files, `tokenizers` and ONNX Runtime, nothing of training."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from tokenizers import Tokenizer

from service.manifest import Golden, GoldenCase, Manifest, sha256_of

BUNDLE = Path(__file__).resolve().parents[3] / "models" / "sst2-gru" / "1"


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return Manifest.read(BUNDLE)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(BUNDLE / "tokenizer.json"))


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(BUNDLE / "model.onnx", providers=["CPUExecutionProvider"])


def probabilities(session: onnxruntime.InferenceSession, tokenizer: Tokenizer, texts: list[str]) -> Any:
    """float64 (N, 2), each row computed alone, without padding."""
    scores = []
    for text in texts:
        ids = np.array([tokenizer.encode(text).ids])
        logits = session.run(None, {"tokens": ids, "lengths": np.array([ids.shape[1]])})[0][0].astype(np.float64)
        scores.append(np.exp(logits) / np.exp(logits).sum())
    return np.array(scores)


def texts_of(case: GoldenCase) -> list[str]:
    body = base64.b64decode(case.body_b64).decode()
    return json.loads(body)["instances"] if case.content_type == "application/json" else [body]


def test_files_are_those_of_the_manifest_and_small(manifest: Manifest) -> None:
    assert set(manifest.files) == {"model.onnx", "tokenizer.json", "golden.json", "reference.npz"}
    for name, digest in manifest.files.items():
        assert sha256_of(BUNDLE / name) == digest
    assert sum(file.stat().st_size for file in BUNDLE.iterdir()) < 3_000_000
    assert (BUNDLE / "curves.png").stat().st_size < 60_000


def test_golden_answers_are_what_the_files_give(session: onnxruntime.InferenceSession, tokenizer: Tokenizer) -> None:
    cases = Golden.read(BUNDLE).cases
    assert {case.content_type.split(";")[0] for case in cases} == {"text/plain", "application/json"}
    for case in cases:
        for expected, row in zip(case.expected, probabilities(session, tokenizer, texts_of(case)), strict=True):
            assert expected["index"] == row.argmax()
            assert expected["label"] == ("negative", "positive")[row.argmax()]
            assert [entry["index"] for entry in expected["top"]] == (-row).argsort().tolist()
            assert expected["probability"] == pytest.approx(row.max(), abs=1e-5)


def test_plain_words_of_praise_and_blame(session: onnxruntime.InferenceSession, tokenizer: Tokenizer) -> None:
    praise = ["A wonderful film!", "It’s funny, touching and beautifully acted.", "One of the best movies of the year."]
    blame = ["A dull, lifeless mess.", "It doesn't work, and it’s boring.", "One of the worst movies of the year."]
    assert (probabilities(session, tokenizer, praise)[:, 1] > 0.5).all()
    assert (probabilities(session, tokenizer, blame)[:, 0] > 0.5).all()


def test_typing_is_brought_to_the_training_form(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("It doesn’t work (at all).").tokens == ["it", "does", "n't", "work", "lrb", "at", "all", "rrb"]
    assert tokenizer.token_to_id("n't") is not None


def test_attribution_tensor_is_in_the_graph(manifest: Manifest) -> None:
    model = onnx.load(BUNDLE / "model.onnx")
    assert manifest.explain is not None
    assert {name for node in model.graph.node for name in node.output} >= set(manifest.explain.attribute_at.values())
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)


def test_figures_meet_the_bar(manifest: Manifest) -> None:
    figures = {(metric.name, metric.split): metric for metric in manifest.metrics}
    mean = figures["mean_accuracy", "test"]
    assert mean.value >= 0.80
    assert mean.n == 1821
    assert "mean of 3 seeds" in mean.note
    assert ("naive_bayes_accuracy", "test") in figures

"""Methods by perturbation through the real server: pictures, words of a text, tables, what is listed and what is refused."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from support import bundle_named, digit, is_error, png
from tokenizers import Tokenizer

TEXT = "A touching, funny film that doesn't miss a beat."


def explain(client, model: str, instances, **parameters):
    return client.post(f"/v1/models/{model}:explain", json={"instances": instances, "parameters": parameters})


def test_words_of_a_text_are_left_out_together(client) -> None:
    bundle = bundle_named("sst2-gru")
    (declared,) = bundle.manifest.inputs
    tokenizer = Tokenizer.from_file(str(bundle.folder / "tokenizer.json"))
    texts = (TEXT, "It is dull.")
    answer = explain(client, "sst2-gru", list(texts), method="feature_ablation", features="words")
    assert answer.status_code == 200, answer.text
    for text, found in zip(texts, answer.json()["explanations"], strict=True):
        assert found["parameters"]["features"] == {"kind": "words", "count": len(text.split())}
        ids = np.asarray(tokenizer.encode(text).ids, np.int64)
        ends = np.cumsum([len(word) + 1 for word in text.split()])
        word_of = np.asarray([np.searchsorted(ends, token["start"], side="right") for token in found["tokens"]])

        def logit(ids: np.ndarray, target: int = found["target"]["index"]) -> float:
            row = {declared.name: ids} | ({declared.text.lengths: np.array(len(ids), np.int64)} if declared.text.lengths else {})
            scores = bundle.run(row)[bundle.manifest.outputs[0].name]
            return float(scores[target]) if scores.size > 1 else float(scores.item() if target else -scores.item())

        for word in range(len(text.split())):
            left = logit(ids) - logit(np.where(word_of == word, declared.text.pad_id, ids))
            assert np.asarray(found["attributions"])[word_of == word].sum() == pytest.approx(left, abs=2e-4)


def test_ids_have_no_words(client) -> None:
    bundle = bundle_named("sst2-gru")
    ids = bundle.row()[bundle.manifest.inputs[0].name]
    is_error(explain(client, "sst2-gru", [ids.tolist()], method="lime", features="words"), 400, "text itself")


def test_pictures_by_superpixels_and_each_its_target(client) -> None:
    pictures = [{"b64": base64.b64encode(png(digit(i))).decode()} for i in (0, 3)]
    answer = explain(client, "mnist-cnn", pictures, method="kernel_shap", targets=["1", 7], n_samples=120).json()
    for found, target in zip(answer["explanations"], (1, 7), strict=True):
        assert found["target"]["index"] == target
        assert found["parity_error"] is None
        assert found["completeness_error"] < 1e-4
        assert np.asarray(found["attributions"]).shape == (28, 28, 1)
        assert found["parameters"]["features"]["kind"] == "superpixels"
    drawn = client.post(
        "/v1/models/mnist-cnn:explain?method=occlusion,xrai",
        content=png(digit(3)),
        headers={"content-type": "image/png", "accept": "image/png"},
    )
    assert drawn.status_code == 200
    assert drawn.content.startswith(b"\x89PNG")


def test_a_sounds_patches_travel_with_its_answer(client) -> None:
    wav = (bundle_named("fsdd-cnn").folder / "sample.wav").read_bytes()
    answer = client.post("/v1/models/fsdd-cnn:explain?method=feature_ablation", content=wav, headers={"content-type": "audio/wav"})
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["explanations"]
    patches = found["time_frequency"]
    values = np.asarray(patches["values"])
    assert values.shape == (len(patches["hertz"]) - 1, len(patches["seconds"]) - 1)
    assert values.sum() == pytest.approx(np.sum(found["attributions"]), abs=1e-3)


def test_what_is_listed_and_what_is_refused(client) -> None:
    listed = {
        model: {m["name"] for m in client.get(f"/v1/models/{model}/methods").json()["methods"]} for model in ("mnist-cnn", "wine-mlp")
    }
    for names in listed.values():
        assert {"occlusion", "feature_ablation", "shapley_value_sampling", "kernel_shap", "lime"} <= names
    assert "xrai" in listed["mnist-cnn"]
    assert "xrai" not in listed["wine-mlp"]
    row = bundle_named("wine-mlp").instance()
    is_error(explain(client, "wine-mlp", [row], method="kernel_shap", n_samples=10_001), 400, "WHYSERVE_MAX_SAMPLES")
    is_error(explain(client, "wine-mlp", [row], method="occlusion", window="wide"), 400, "window")
    is_error(explain(client, "wine-mlp", [row], method="lime", features="superpixels"), 400, "columns")

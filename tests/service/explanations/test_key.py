"""Two explanations have one key where they are the same, and never where anything that they depend on differs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import bundle_named

from service.errors import BadParameter
from service.explain.methods import resolve
from service.explanations.key import Key, keys
from service.repository.loaded import fingerprint_of

WINE = bundle_named("wine-mlp")
ROWS = np.arange(22, dtype=np.float32).reshape(2, 11)


def keyed(rows: Any = ROWS, *, sha256: str = "a", manifest: Any = WINE.manifest, features: Any = None, **parameters: Any) -> list[Key]:
    model: Any = SimpleNamespace(fingerprint=fingerprint_of(manifest, sha256))
    request = resolve(WINE.manifest, parameters)
    if features is not None:
        object.__setattr__(request, "features", features)
    return keys(model, request, {"row": np.asarray(rows)})


def test_what_is_not_computed_differently_has_the_same_key():
    assert keyed() == keyed(ROWS.copy(), timeout=3, top_k=2, seed=0, method="integrated_gradients")
    assert keyed()[::-1] == keyed(ROWS[::-1])
    assert keyed(targets=[1, 1]) == keyed(target=1)
    assert len(set(keyed())) == 2


def test_whatever_the_answer_depends_on_makes_another_key():
    other = WINE.manifest.model_copy(update={"title": "another reference set, another default .."})
    found = [
        keyed(),
        keyed(sha256="b"),
        keyed(manifest=other),
        keyed(manifest=WINE.manifest.model_copy(update={"name": "another"})),
        keyed(manifest=WINE.manifest.model_copy(update={"version": 2})),
        keyed(ROWS + np.float32(1e-6)),
        keyed(ROWS.astype(np.float64)),
        keyed(ROWS.view(np.int32)),
        keyed(seed=1),
        keyed(target=0),
        keyed(target=1),
        keyed(target="plain"),
        keyed(quality=True),
        keyed(steps=7),
        keyed(method="saliency"),
        keyed(explained="probability"),
        keyed(features={"row": np.zeros((2, 11), np.int64)}),
        keyed(features={"row": np.ones((2, 11), np.int64)}),
    ]
    assert len({key for row in found for key in row}) == 2 * len(found)


def test_strings_by_their_content():
    assert keyed(np.array([["ab", "c"]], object)) == keyed(np.array([["ab", "c"]], object))
    assert keyed(np.array([["ab", "c"]], object)) != keyed(np.array([["a", "bc"]], object))


def test_targets_and_features_of_fewer_rows_are_refused():
    with pytest.raises(BadParameter):
        keyed(targets=[1])
    with pytest.raises(BadParameter):
        keyed(features={"row": np.zeros((1, 11), np.int64)})

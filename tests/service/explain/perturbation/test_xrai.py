"""XRAI against a plain reading of its paper, and against integrated gradients from black and from white."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from perturbed import ask
from support import bundle_named, digit

from service.errors import NotExplainable
from service.explain.attribution.region import _ranked, _regions
from service.explain.cancel import Cancelled, Token
from service.explain.loading import load
from service.explain.subject import Subject
from service.manifest import ImagePolicy, Input
from service.repository.bundle import Location, read_bundle


@pytest.fixture(scope="module")
def mnist() -> Subject:
    folder: Path = bundle_named("mnist-cnn").folder
    return load(read_bundle(Location("mnist-cnn", 1, folder)))


def test_sums_are_those_of_integrated_gradients_from_black_and_white(mnist) -> None:
    image = digit(3)[None, None].astype(np.float32)
    asked = {"tolerance": 1e-3}
    (found,) = ask(mnist, {"image": image}, method="xrai", **asked)
    ends = [ask(mnist, {"image": image}, method="integrated_gradients", baseline=b, **asked)[0] for b in (0.0, 255.0)]
    mean = sum(float(e.attributions["image"].astype(float).sum()) for e in ends) / 2
    assert float(found.attributions["image"].astype(float).sum()) == pytest.approx(mean, rel=1e-4)
    assert found.fields["parameters"]["baseline"] == [0.0, 255.0]
    assert found.fields["baseline_output"] == pytest.approx(sum(e.fields["baseline_output"] for e in ends) / 2, rel=1e-5)
    assert 1 < len(np.unique(found.attributions["image"])) <= found.fields["parameters"]["regions"] + 1
    (one,) = ask(mnist, {"image": image}, method="xrai", baseline=0.0, **asked)
    total = float(one.attributions["image"].astype(float).sum())
    assert total == pytest.approx(one.fields["instance_output"] - one.fields["baseline_output"], rel=2e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_regions_are_taken_as_the_paper_says(channels) -> None:
    rng = np.random.default_rng(1)
    smooth = np.kron(rng.uniform(0, 255, (5, 6, channels)), np.ones((8, 8, 1)))
    policy = ImagePolicy(height=40, width=48, channels=channels, layout="NHWC")
    entry = Input(name="x", codec="image", dtype="float32", shape=(40, 48, channels), range=(0, 255), image=policy)
    regions = _regions(smooth, entry)
    attributions = rng.standard_normal((40, 48))
    found, taken = _ranked(attributions, regions, Token())
    masks = [mask.reshape(40, 48) > 0 for mask in regions.pixels.toarray()]
    assert np.logical_or.reduce(masks).all()
    expected, free, count = np.zeros((40, 48)), np.ones((40, 48), bool), 0
    while True:
        fresh = [mask & free for mask in masks]
        worth = [mask for mask in fresh if mask.sum() >= regions.fresh]
        if not worth:
            break
        best = max(worth, key=lambda mask: attributions[mask].mean())
        expected[best] = attributions[best].mean()
        free &= ~best
        count += 1
    expected[free] = attributions[free].mean() if free.any() else 0
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert taken == count
    assert found.sum() == pytest.approx(attributions.sum())


def test_it_is_for_pictures_and_can_be_cancelled(mnist, subjects) -> None:
    with pytest.raises(NotExplainable, match="pictures"):
        ask(subjects["linear"], {"x": np.ones((1, 5), np.float32)}, method="xrai")
    gone = Token()
    gone.cancel()
    with pytest.raises(Cancelled):
        ask(mnist, {"image": digit(3)[None, None].astype(np.float32)}, token=gone, method="xrai")

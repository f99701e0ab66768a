"""Features of each modality: every element belongs to one, sums are kept, and what is left out is left out."""

from __future__ import annotations

import numpy as np
import pytest

from service.codecs.spectrogram import Frames
from service.errors import BadParameter
from service.explain.features import Groups, cells, choose
from service.explain.features.blocks import blocks
from service.explain.features.sound import Patches
from service.explain.methods import resolve
from service.manifest import AudioPolicy, ImagePolicy, Input, Manifest, Output

RATE = 8000
DRAW = np.random.default_rng(0)


def _manifest(entry: Input) -> Manifest:
    output = Output(name="y", kind="value", dtype="float32", shape=(1,))
    return Manifest(name="m", version=1, task="other", inputs=(entry,), outputs=(output,), files={"model.onnx": "0" * 64})


def _features(entry: Input, x: np.ndarray, **asked):
    manifest = _manifest(entry)
    return choose(resolve(manifest, {"method": "feature_ablation", **asked}), manifest, {entry.name: x[None]})[entry.name]


def _picture(channels: int, layout: str, height: int = 40, width: int = 60) -> Input:
    shape = (height, width, channels) if layout == "NHWC" else (channels, height, width)
    policy = ImagePolicy(height=height, width=width, channels=channels, layout=layout)
    return Input(name="x", codec="image", dtype="float32", shape=shape, range=(0, 255), image=policy)


@pytest.mark.parametrize(("shape", "most", "count"), [((12, 12), 9, 9), ((7,), 3, 3), ((10, 3), 8, 4), ((1, 5, 5), 100, 25), ((), 4, 1)])
def test_blocks_are_even_and_no_more_than_asked(shape, most, count) -> None:
    numbers = blocks(shape, most)
    assert numbers.shape == shape
    sizes = np.bincount(numbers.reshape(-1))
    assert len(sizes) == count
    assert sizes.min() > 0


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", [1, 3])
def test_superpixels_follow_the_picture_and_hold_all_channels(channels, layout) -> None:
    """Two halves of different grey, a border that no grid would have: every area lies in one of them."""
    plane = np.where(np.arange(60) < 23, 40.0, 210.0) + np.zeros((40, 1))
    planes = np.stack([plane] * channels, 2 if layout == "NHWC" else 0).astype(np.float32)
    found = _features(_picture(channels, layout), planes, n_features=12)
    numbers = found.of if layout == "NHWC" else found.of.transpose(1, 2, 0)
    assert found.of.shape == planes.shape
    assert (numbers == numbers[:, :, :1]).all()
    assert not set(numbers[:, :22].reshape(-1)) & set(numbers[:, 24:].reshape(-1))
    assert 6 <= found.count <= 24
    assert found.described["kind"] == "superpixels"


def test_a_picture_without_any_contrast_has_features_too() -> None:
    found = _features(_picture(1, "NCHW"), np.zeros((1, 40, 60), np.float32))
    assert found.count > 1


def test_what_is_asked_for_is_taken() -> None:
    entry, x = _picture(3, "NCHW"), np.zeros((3, 40, 60), np.float32)
    assert _features(entry, x, features="pixels").count == 2400
    assert _features(entry, x, features={"x": "grid"}, n_features=24).count == 24
    with pytest.raises(BadParameter, match="4800 features, at most 4096"):
        _features(_picture(1, "NCHW", 60, 80), np.zeros((1, 60, 80), np.float32), features="pixels")
    groups, shape = cells(entry, x)
    assert shape == (40, 60)
    assert groups.count == 2400


def test_a_large_tensor_is_cut_into_blocks_and_a_small_one_is_not() -> None:
    def tensor(*shape: int) -> tuple[Input, np.ndarray]:
        return Input(name="x", codec="tensor", dtype="float32", shape=shape), np.zeros(shape, np.float32)

    assert _features(*tensor(16, 16)).count == 256
    assert _features(*tensor(100, 100)).count == 225
    assert _features(*tensor()).count == 1


def test_groups_mix_and_spread() -> None:
    groups = Groups(np.asarray([[0, 0, 1], [2, 1, 1]]), {})
    x, absent = np.arange(1.0, 7.0, dtype=np.float32).reshape(1, 2, 3), np.zeros((1, 2, 3))
    mixed = groups.mix(np.asarray([[True, False, True], [False, True, False]]), x, absent)
    np.testing.assert_array_equal(mixed, [[[1, 2, 0], [4, 0, 0]], [[0, 0, 3], [0, 5, 6]]])
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(groups.spread(np.asarray([1.0, 3.0, -2.0])), [[0.5, 0.5, 1], [-2, 1, 1]])
    assert groups.idle(np.asarray([[[1, 1, 0], [5, 0, 0]]]), np.asarray([[[1, 1, 0], [4, 0, 0]]])).tolist() == [True, True, False]
    embedded = np.ones((1, 2, 3, 4), np.float32)  # behind the input's own axes: an embedding
    assert groups.mix(np.ones((5, 3), bool), embedded, np.zeros((1, 1, 1, 1))).shape == (5, 2, 3, 4)


# ------------------------------------------------------------------------------------------------------------- patches


@pytest.mark.parametrize("shape", [(8000,), (1, 3001), (17, 1), (2,)])
def test_a_sound_all_of_whose_patches_are_there_is_the_sound_itself(shape) -> None:
    patches = Patches.about(64, RATE, shape)
    x, other = (DRAW.standard_normal((1, *shape)).astype(np.float32) for _ in range(2))
    np.testing.assert_allclose(patches.mix(np.ones((1, patches.count), bool), x, other), x, atol=1e-5)
    np.testing.assert_allclose(patches.mix(np.zeros((1, patches.count), bool), x, other), other, atol=1e-5)
    values = DRAW.standard_normal(patches.count)
    spread = patches.spread(values)
    assert spread.shape == shape
    assert float(spread.astype(float).sum()) == pytest.approx(values.sum(), abs=1e-4)


def test_a_patch_left_out_takes_its_tone_and_its_time_away() -> None:
    time = np.arange(8000) / RATE
    low, high = np.sin(2 * np.pi * 300 * time), np.sin(2 * np.pi * 2600 * time)
    patches = Patches.about(64, RATE, (8000,))
    drawn = patches.drawing(np.arange(patches.count))["time_frequency"]
    assert drawn["seconds"][0] == 0
    assert drawn["seconds"][-1] == 1
    assert drawn["hertz"][-1] == 4000
    assert np.asarray(drawn["values"]).shape == (len(drawn["hertz"]) - 1, len(drawn["seconds"]) - 1)
    assert np.diff(drawn["hertz"]).min() > 0
    band = next(i for i, top in enumerate(drawn["hertz"][1:]) if top > 2600)
    present = ~np.isin(np.arange(patches.count), np.asarray(drawn["values"], int)[band])
    mixed = patches.mix(present[None], (low + high)[None].astype(np.float32), np.zeros((1, 8000)))[0]
    assert np.abs(mixed[400:-400] - low[400:-400]).max() < 0.05
    stretch = np.asarray(drawn["values"], int)[:, 3]
    gone = patches.mix(~np.isin(np.arange(patches.count), stretch)[None], low[None].astype(np.float32), np.zeros((1, 8000)))[0]
    start, stop = (int(second * RATE) for second in drawn["seconds"][3:5])
    inner = slice(start + 128, stop - 128)
    assert np.abs(gone[inner]).max() < 0.05
    np.testing.assert_allclose(gone[: start - 256], low[: start - 256], atol=1e-4)


def test_a_sounds_features_are_patches_at_the_models_rate() -> None:
    entry = Input(name="x", codec="audio", dtype="float32", shape=(8000,), audio=AudioPolicy(sample_rate=RATE, max_seconds=1))
    x = DRAW.standard_normal(8000).astype(np.float32)
    found = _features(entry, x, n_features=36)
    assert isinstance(found, Patches)
    assert found.frames == Frames.of_rate(RATE)
    assert 25 <= found.count <= 49
    assert _features(entry, x, features="grid").count == 64

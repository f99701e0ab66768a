"""The spoken-digit recipe on tones in the digits' place: it must learn them, and its bundle must answer as its network does."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
import pytest

from service.manifest import Golden, Manifest
from training.recipes import fsdd_cnn
from training.recipes.fsdd_cnn_card import interval
from training.recordings import Recording, SpokenDigits, split
from training.session import Session

SPEAKERS = ("ann", "bob", "eve")


def tone(digit: int, speaker: str, take: int) -> Recording:
    """A digit is a pitch; speakers differ in loudness, takes in length."""
    time = np.arange(2000 + 60 * take) / fsdd_cnn.RATE
    wave = np.sin(2 * np.pi * (300 + 300 * digit) * time) * (0.1 + 0.2 * SPEAKERS.index(speaker))
    return Recording(digit, speaker, take, (wave * 32767).astype(np.int16))


@pytest.fixture(scope="module")
def tones() -> SpokenDigits:
    return split(tuple(tone(digit, speaker, take) for digit in range(10) for speaker in SPEAKERS for take in range(3, 15)))


@pytest.fixture(scope="module")
def bundle(tones: SpokenDigits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fsdd_cnn, "load_fsdd", lambda root: tones)
        config = fsdd_cnn.Config(epochs=8, batch_size=16, learning_rate=1e-2, ema=0.8, unheard_epochs=3)
        (made,) = fsdd_cnn.train(config, Session(device="cpu", out=folder / "models", runs=folder / "runs"))
    return made


def test_it_learns(bundle: Path):
    metrics = {(metric.name, metric.split): metric for metric in Manifest.read(bundle).metrics}
    assert metrics["accuracy", "test"].value > 0.8  # chance is 0.1
    assert metrics["accuracy", "test"].n == 60
    unheard = metrics["accuracy_on_unheard_speakers", "all"]
    assert unheard.n == 360  # every recording once, by the network that wasn't trained on its speaker
    assert unheard.value > 0.3


def test_the_manifest_takes_one_second_of_sound(bundle: Path):
    manifest = Manifest.read(bundle)
    (sound,) = manifest.inputs
    assert sound.audio is not None
    assert (sound.shape, sound.audio.sample_rate, sound.audio.pad_to_max) == ((8000,), 8000, True)
    assert manifest.data[0].licence == "CC BY-SA 4.0"
    assert manifest.data[0].sha256
    assert (bundle / "model.onnx").stat().st_size < 1_000_000


def test_golden_cases_are_sounds_as_they_are_sent(bundle: Path):
    cases = Golden.read(bundle).cases
    assert [case.content_type for case in cases] == ["audio/wav", "application/json"]
    assert [len(case.expected) for case in cases] == [1, 2]
    with wave.open(io.BytesIO((bundle / "sample.wav").read_bytes())) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 1, 2)


def test_the_card_says_who_was_heard(bundle: Path):
    card = (bundle / "README.md").read_text()
    for words in (*SPEAKERS, "CC BY-SA 4.0", "has the same six speakers"):
        assert words in card


def test_sounds_are_cut_and_padded_to_a_second():
    rows = fsdd_cnn.sounds([Recording(0, "a", 0, np.full(9000, 16384, np.int16)), Recording(0, "a", 1, np.array([-32768], np.int16))])
    assert rows.shape == (2, 8000)
    assert (rows[0] == 0.5).all()
    assert rows[1].tolist() == [-1.0] + [0.0] * 7999


def test_the_interval_is_wilsons():
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611.
    assert interval(81 / 263, 263) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
    assert interval(0, 20) == (pytest.approx(0, abs=1e-9), pytest.approx(0.1611, abs=1e-4))

"""Sounds: exact samples for each encoding, written here byte by byte; another rate against the closed form; and what is refused."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from service.codecs.audio import AudioLimits, decode_sound, peek_samples
from service.errors import BadInput, TooLarge
from service.manifest import AudioPolicy, Input

RATE = 8000
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
LIMITS = AudioLimits()
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
"""Of KSDATAFORMAT_SUBTYPE_*, behind the two bytes that hold the plain format tag."""


def declared(shape: tuple[int | None, ...] = (None,), **policy) -> Input:
    return Input(
        name="sound", codec="audio", dtype="float32", shape=shape, audio=AudioPolicy(**{"sample_rate": RATE, "max_seconds": 1.0, **policy})
    )


def wav(data: bytes, *, bits: int = 16, tag: int = PCM, channels: int = 1, rate: int = RATE, extensible: bool = False, size=None) -> bytes:
    """A RIFF file after the specification; `size` is what the header says of the samples where it lies."""
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", EXTENSIBLE if extensible else tag, channels, rate, rate * block % 2**32, block, bits)
    if extensible:
        form += struct.pack("<HHIH", 22, bits, 0, tag) + _GUID_TAIL
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"LIST\x03\0\0\0odd\0"  # a chunk of odd length before the samples
    chunks += b"data" + struct.pack("<I", len(data) if size is None else size) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def pcm16(samples: np.ndarray) -> bytes:
    return np.round(samples * 32768).clip(-32768, 32767).astype("<i2").tobytes()


def tone(hertz: float, seconds: float = 0.5, rate: int = RATE) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def flac(samples: np.ndarray, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="FLAC")
    return file.getvalue()


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize(
    ("data", "bits", "tag", "expected"),
    [
        (bytes([0, 128, 192, 255]), 8, PCM, [-1, 0, 0.5, 127 / 128]),
        (struct.pack("<4h", -32768, 0, 16384, 32767), 16, PCM, [-1, 0, 0.5, 32767 / 32768]),
        (b"\x00\x00\x80\x00\x00\x00\x00\x00\x40\x01\x00\x00", 24, PCM, [-1, 0, 0.5, 2**-23]),
        (struct.pack("<4i", -(2**31), 0, 2**30, 2**20), 32, PCM, [-1, 0, 0.5, 2**-11]),
        (struct.pack("<4f", -1, 0, 0.5, 0.1), 32, FLOAT, [-1, 0, 0.5, np.float32(0.1)]),
        (struct.pack("<4d", -1, 0, 0.5, 0.1), 64, FLOAT, [-1, 0, 0.5, np.float32(0.1)]),
    ],
    ids=["8 bit", "16 bit", "24 bit", "32 bit", "float32", "float64"],
)
def test_samples_are_exact_in_every_encoding(data: bytes, bits: int, tag: int, expected: list[float], extensible: bool):
    sound = decode_sound(wav(data, bits=bits, tag=tag, extensible=extensible), declared(), LIMITS)
    assert sound.tensor.dtype == np.float32
    np.testing.assert_array_equal(sound.tensor, np.array(expected, np.float32))
    assert (sound.samples, sound.sent_rate, sound.sent_channels, sound.sent_seconds) == (4, RATE, 1, 4 / RATE)
    assert sound.warnings(RATE) == ()


def test_flac_is_lossless():
    samples = tone(440)
    np.testing.assert_array_equal(
        decode_sound(flac(samples), declared(), LIMITS).tensor, decode_sound(wav(pcm16(samples)), declared(), LIMITS).tensor
    )


def test_stereo_is_mixed_or_refused_as_the_policy_says():
    data = struct.pack("<4h", 16384, 0, -32768, 16384)  # left, right, left, right
    np.testing.assert_array_equal(decode_sound(wav(data, channels=2), declared(), LIMITS).tensor, [0.25, -0.25])
    with pytest.raises(BadInput, match="2 channels, this model takes mono"):
        decode_sound(wav(data, channels=2), declared(channels="refuse"), LIMITS)


@pytest.mark.parametrize("rate", [44_100, 48_000, 16_000, 11_025])
def test_another_rate_becomes_the_same_wave_at_the_models(rate: int):
    sound = decode_sound(wav(pcm16(tone(440, rate=rate)), rate=rate), declared(), LIMITS)
    assert sound.samples == len(sound.tensor) == pytest.approx(RATE / 2, abs=1)
    inner = slice(200, 3800)  # the ends ring, since the wave starts and stops at once
    np.testing.assert_allclose(sound.tensor[inner], tone(440)[inner], atol=2e-3)


def test_what_the_models_rate_cannot_hold_is_filtered_out_not_mirrored():
    high = decode_sound(wav(pcm16(tone(7000, rate=44_100)), rate=44_100), declared(), LIMITS)  # above 4 kHz, half the model's rate
    assert np.abs(high.tensor[200:3800]).max() < 1e-3


@pytest.mark.parametrize("shape", [(6,), (1, 6), (6, 1)])
def test_a_graph_of_fixed_length_gets_silence_behind_a_short_sound(shape: tuple[int, ...]):
    sound = decode_sound(wav(struct.pack("<2h", 16384, -16384)), declared(shape), LIMITS)
    assert sound.tensor.shape == shape
    np.testing.assert_array_equal(sound.tensor.ravel(), [0.5, -0.5, 0, 0, 0, 0])
    assert sound.samples == 2


def test_padding_to_the_longest_is_the_policys():
    assert decode_sound(wav(pcm16(tone(440))), declared(pad_to_max=True), LIMITS).tensor.shape == (RATE,)
    assert decode_sound(wav(pcm16(tone(440))), declared(), LIMITS).tensor.shape == (RATE // 2,)


def test_a_long_sound_is_cut_with_a_warning_or_refused():
    long = tone(440, seconds=2.5)
    sound = decode_sound(wav(pcm16(long)), declared(), LIMITS)
    np.testing.assert_allclose(sound.tensor, long[:RATE], atol=2**-16)
    assert sound.warnings(RATE) == ("the sound was cut after 1 s of 2.5 s",)
    with pytest.raises(TooLarge, match=r"2\.5 s long, this model takes at most 1 s"):
        decode_sound(wav(pcm16(long)), declared(beyond="refuse"), LIMITS)


def test_a_float_sound_a_little_too_loud_is_clipped_with_a_warning():
    sound = decode_sound(wav(struct.pack("<4f", 1.5, -1.25, 0.5, 1), bits=32, tag=FLOAT), declared(), LIMITS)
    np.testing.assert_array_equal(sound.tensor, [1, -1, 0.5, 1])
    assert sound.warnings(RATE) == ("2 of the sound's samples were beyond -1 to 1 and were clipped",)


def test_a_writer_into_a_pipe_does_not_know_the_length():
    for size in (0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF - 36):
        np.testing.assert_array_equal(
            decode_sound(wav(struct.pack("<2h", 1 << 14, 1), size=size), declared(), LIMITS).tensor, [0.5, 2**-15]
        )


GOOD = wav(pcm16(tone(440)))
OPUS_OR_OTHER = b"OggS" + bytes(60)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the sound is empty, expected WAV or FLAC"),
        (OPUS_OR_OTHER, "expected WAV or FLAC"),
        (b"RIFF\x04\0\0\0WEBP", "expected WAV or FLAC"),
        (GOOD[:12], "no data chunk"),
        (GOOD[:40], "no data chunk"),
        (GOOD[:-100], "truncated: 100 of 8000 bytes"),
        (GOOD[: len(GOOD) // 2], "truncated"),
        (wav(b""), "is empty"),
        (wav(bytes(1000)), "silent"),
        (wav(b"\x80" * 1000, bits=8), "silent"),
        (wav(struct.pack("<2h", 1000, -1000), channels=2), "cancel each other out"),
        (wav(struct.pack("<2f", 0.1, np.nan), bits=32, tag=FLOAT), "NaN"),
        (wav(struct.pack("<2f", 0.1, -np.inf), bits=32, tag=FLOAT), "infinity"),
        (wav(struct.pack("<2f", 12000, -300), bits=32, tag=FLOAT), r"reach 1\.2e\+04, expected -1 to 1"),
        (wav(pcm16(tone(440)), size=9000), "truncated: 1000 of 9000"),
        (wav(pcm16(tone(440)), rate=0), "says 0 samples a second"),
        (wav(pcm16(tone(440)), rate=2**31 - 1), "samples a second, expected 1000 to 768000"),
        (wav(pcm16(tone(440)), channels=0), "damaged"),
        (wav(pcm16(tone(440)), bits=0), "damaged"),
        (wav(pcm16(tone(440)), tag=0x11), "damaged|encoded as IMA_ADPCM"),
        (flac(tone(440))[:600], "the FLAC sound is"),
        (flac(tone(440))[:30], "the FLAC sound is"),
        (b"fLaC" + bytes(100), "the FLAC sound is"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} bytes",
)  # fmt: skip
def test_what_is_no_whole_sound_is_refused_with_the_reason(data: bytes, words: str):
    with pytest.raises(BadInput, match=words) as caught:
        decode_sound(data, declared(), LIMITS)
    assert "0x" not in caught.value.message  # no object of the server's memory


def test_a_length_that_a_flac_header_claims_or_keeps_to_itself():
    whole = flac(tone(440))  # bytes 21 to 25, after the STREAMINFO block's specification: 36 bits of total samples
    with pytest.raises(BadInput, match="doesn't say how long"):
        decode_sound(whole[:21] + bytes([whole[21] & 0xF0]) + bytes(4) + whole[26:], declared(), LIMITS)
    with pytest.raises(TooLarge, match=r"samples, the limit is 24,000,000 \(WHYSERVE_MAX_SOUND_SAMPLES\)"):
        decode_sound(whole[:21] + bytes([whole[21] | 0x0F]) + b"\xff" * 4 + whole[26:], declared(), LIMITS)
    with pytest.raises(BadInput, match="FLAC"):
        decode_sound(whole[:21] + bytes([whole[21] & 0xF0]) + (6000).to_bytes(4, "big") + whole[26:], declared(), LIMITS)


def test_the_limit_is_judged_by_the_header():
    stereo = wav(pcm16(np.repeat(tone(440), 2)), channels=2)
    assert peek_samples(stereo, LIMITS) == 8000
    with pytest.raises(TooLarge, match="4000 x 2"):
        peek_samples(stereo, AudioLimits(max_samples=7999))


def test_damaged_bytes_lead_to_nothing_but_a_clear_error():
    draw = np.random.default_rng(0)
    for whole in (GOOD, flac(tone(440)), wav(struct.pack("<800f", *tone(440, 0.1)), bits=32, tag=FLOAT, extensible=True)):
        for _ in range(400):
            damaged = bytearray(whole)
            for place in draw.integers(0, min(len(whole), 120), draw.integers(1, 6)):
                damaged[place] = draw.integers(256)
            try:
                sound = decode_sound(bytes(damaged), declared(), LIMITS)
            except (BadInput, TooLarge):
                continue
            assert 0 < sound.samples <= RATE
            assert np.abs(sound.tensor).max() <= 1


@pytest.mark.parametrize(("shape", "dtype"), [((2, 100), "float32"), ((), "float32"), ((1, 1), "float32"), ((100,), "int16")])
def test_a_manifest_whose_sound_is_no_row_of_samples_is_refused(shape: tuple[int, ...], dtype: str):
    with pytest.raises(ValidationError, match="a sound is floats of shape"):
        Input(name="sound", codec="audio", dtype=dtype, shape=shape, audio=AudioPolicy(sample_rate=RATE, max_seconds=1))

"""Sounds through the real server: every form of body, the figures against ONNX Runtime on the file's own samples, bad ones refused."""

from __future__ import annotations

import base64
import io
import struct
import wave

import httpx
import numpy as np
import pytest
import soxr
from PIL import Image
from support import MODELS, bundle_named, is_error, serving

BUNDLE = bundle_named("fsdd-cnn")
WAV = (BUNDLE.folder / "sample.wav").read_bytes()
PREDICT, EXPLAIN = f"{BUNDLE.v1}:predict", f"{BUNDLE.v1}:explain"


def samples() -> np.ndarray:
    """The sample's own, by the standard library: float32 (length,)."""
    with wave.open(io.BytesIO(WAV)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768


def padded(sound: np.ndarray) -> np.ndarray:
    return np.pad(sound[:8000], (0, max(0, 8000 - len(sound)))).astype(np.float32)


def wav(sound: np.ndarray, rate: int = 8000) -> bytes:
    """(length,) or (length, channels) as 16-bit PCM."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1 if sound.ndim == 1 else sound.shape[1], 2, rate, len(sound), "NONE", ""))
        out.writeframes(np.round(sound * 32767).astype("<i2").tobytes())
    return file.getvalue()


def agrees(response: httpx.Response, sound: np.ndarray, tolerance: float = 1e-4) -> None:
    assert response.status_code == 200, response.text[:500]
    probabilities = BUNDLE.probabilities({"sound": padded(sound)})
    (prediction,) = response.json()["predictions"]
    assert prediction["index"] == int(probabilities.argmax())
    assert prediction["probability"] == pytest.approx(probabilities.max(), abs=tolerance)


@pytest.mark.parametrize("kind", ["audio/wav", "audio/x-wav", "application/octet-stream", "application/x-www-form-urlencoded", ""])
def test_a_raw_sound_by_its_type_or_its_first_bytes(client: httpx.Client, kind: str):
    agrees(client.post(PREDICT, content=WAV, headers={"content-type": kind} if kind else {}), samples())


def test_a_sound_in_json_in_a_form_and_as_numbers(client: httpx.Client):
    agrees(client.post(PREDICT, json={"instances": [{"b64": base64.b64encode(WAV).decode()}]}), samples())
    agrees(client.post(PREDICT, files={"anything": ("seven.wav", WAV, "audio/wav")}), samples())
    agrees(client.post(PREDICT, json={"instances": [padded(samples()).tolist()]}), samples())


def test_another_rate_and_stereo_are_brought_to_the_models(client: httpx.Client):
    quick = soxr.resample(samples(), 8000, 44_100)
    agrees(client.post(PREDICT, content=wav(quick, 44_100), headers={"content-type": "audio/wav"}), samples(), tolerance=1e-3)
    stereo = np.stack([samples() * 0.8, samples() * 0.4], axis=1)
    agrees(client.post(PREDICT, content=wav(stereo), headers={"content-type": "audio/wav"}), samples() * 0.6, tolerance=1e-3)


def test_an_explanation_refers_to_the_samples(client: httpx.Client):
    (found,) = client.post(EXPLAIN, content=WAV, headers={"content-type": "audio/wav"}).json()["explanations"]
    attributions = np.array(found["attributions"])
    assert attributions.shape == (8000,)
    assert found["completeness_error"] < 0.01
    f_x, f_b = BUNDLE.explained({"sound": padded(samples())}, 7)
    assert attributions.sum() == pytest.approx(f_x - f_b, rel=0.011)
    assert not attributions[len(samples()) :].any()  # padding is the baseline: it moves nothing
    assert found["sound"] == {
        "sample_rate": 8000,
        "samples": len(samples()),
        "sent_rate": 8000,
        "sent_channels": 1,
        "sent_seconds": pytest.approx(len(samples()) / 8000),
    }


def test_a_long_sound_is_cut_with_a_warning(client: httpx.Client):
    long = np.concatenate([samples(), samples(), samples()])
    answer = client.post(EXPLAIN, content=wav(long), headers={"content-type": "audio/wav"}, params={"method": "saliency"})
    (found,) = answer.json()["explanations"]
    assert f"the sound was cut after 1 s of {len(long) / 8000:.4g} s" in found["warnings"]


def test_a_picture_and_a_page_of_several_methods(client: httpx.Client):
    asked = {"content-type": "audio/wav"}
    drawn = client.post(EXPLAIN, content=WAV, headers={**asked, "accept": "image/png"}, params={"method": "saliency,input_x_gradient"})
    assert drawn.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(drawn.content)) as picture:
        assert picture.width > 640
    page = client.post(EXPLAIN, content=WAV, headers={**asked, "accept": "text/html"}, params={"method": "saliency,input_x_gradient"})
    assert "rank correlation" in page.text
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (WAV[:-1000], 400, "truncated"),
        (WAV[:44], 400, "truncated"),
        (wav(np.zeros(100)), 400, "silent"),
        (wav(np.zeros(0)), 400, "empty"),
        (b"RIFF\xff\xff\xff\xffWAVEfmt ", 400, "no samples"),
        (b"ID3\x04" + bytes(100), 400, "WAV or FLAC"),
        (WAV[:24] + struct.pack("<I", 2**31) + WAV[28:], 400, "samples a second"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_bad_sound_is_refused_with_the_reason(client: httpx.Client, body: bytes, status: int, words: str):
    for verb in (PREDICT, EXPLAIN):
        is_error(client.post(verb, content=body, headers={"content-type": "audio/wav"}), status, words)


def test_a_sound_for_another_model_and_another_thing_for_this_one(client: httpx.Client):
    is_error(client.post("/v1/models/mnist-cnn:predict", content=WAV, headers={"content-type": "audio/wav"}), 415, "image")
    is_error(client.post(PREDICT, content=b"seven", headers={"content-type": "text/plain"}), 415, "audio/wav")
    is_error(client.post(PREDICT, json={"instances": [[0.0] * 7999]}), 400, "8000")


async def test_the_limit_on_samples_is_a_setting():
    async with serving(models=BUNDLE.folder, max_sound_samples=15_000) as limited:
        name = (await limited.get("/v1/models")).json()["models"][0]
        long = wav(np.tile(samples(), 3))
        answer = await limited.post(f"/v1/models/{name}:predict", content=long, headers={"content-type": "audio/wav"})
    is_error(answer, 413, "WHYSERVE_MAX_SOUND_SAMPLES", "15393 x 1", "15,000")


async def test_long_sounds_are_decoded_off_the_event_loop():
    """Ten of 20 seconds at 192 kHz at once: all are answered, each within the budget for decoding."""
    import asyncio

    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 20 * 192_000)
    body = wav(noise, 192_000)
    async with serving(models=MODELS, max_decoding_mib=64) as local:
        headers = {"content-type": "audio/wav"}
        answers = await asyncio.gather(*(local.post(PREDICT, content=body, headers=headers) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}

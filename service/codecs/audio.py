"""Encoded sounds to samples of the model's rate: the closed list of formats, limits before decoding, channels and length by policy."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from service.errors import BadInput, TooLarge
from service.manifest import AudioPolicy, Input

Array = npt.NDArray[Any]

FORMATS = "WAV or FLAC"
_ENCODINGS = {"PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}
"""Of the many that libsndfile reads inside a WAV, those in use; a closed list, since each decoder is code that strangers reach."""
_RATES = (1_000, 768_000)
"""Hz; what is outside was never recorded, and resampling it takes filters of absurd length."""
_STREAMED = 0x7FFFFF00
"""From this size on a chunk's size says that the writer didn't know it (a pipe); its samples go on to the end of the file."""
_UNKNOWN = 1 << 62
"""libsndfile's number of frames where the header has none."""
_LOUDEST = 8.0
"""A float sound may pass 1 a little and is clipped; beyond this its samples aren't on the scale of -1 to 1 at all."""


@dataclass(frozen=True, slots=True)
class AudioLimits:
    max_samples: int = 24_000_000
    """Samples of all channels together; WHYSERVE_MAX_SOUND_SAMPLES."""


@dataclass(frozen=True, slots=True, eq=False)
class DecodedSound:
    """`tensor` is of the input's dtype and shape, samples -1 to 1 at the model's rate, silence behind the sound's end."""

    tensor: Array
    samples: int
    """How many of them are of the sound; what follows is padding."""
    sent_rate: int
    """Hz, of the file."""
    sent_channels: int
    sent_seconds: float
    cut: bool
    """Whether the file went on behind what the model hears."""
    clipped: int
    """How many of the file's samples were beyond -1 to 1."""

    def warnings(self, rate: int) -> tuple[str, ...]:
        """What the decoding changed that the sender may not expect; `rate` of the model, Hz."""
        said = []
        if self.cut:
            said.append(f"the sound was cut after {self.samples / rate:.4g} s of {self.sent_seconds:.4g} s")
        if self.clipped:
            said.append(f"{self.clipped} of the sound's samples were beyond -1 to 1 and were clipped")
        return tuple(said)


def decode_sound(data: bytes, declared: Input, limits: AudioLimits) -> DecodedSound:
    """One encoded sound as the model's input, by the input's policy.

    Raises BadInput for what isn't a whole sound of the closed list of formats, is empty or silent, holds NaN or is what the
    policy refuses; TooLarge beyond the limit, judged by the header, or beyond the model's length where the policy refuses.
    """
    policy = declared.audio
    assert policy is not None
    file = _open(data, limits)
    if policy.channels == "refuse" and file.channels > 1:
        raise BadInput(f"the sound has {file.channels} channels, this model takes mono")
    length = _longest(declared)  # in samples of the model
    most = -(-length * file.samplerate // policy.sample_rate)  # in samples of the file, a channel
    if file.frames > most and policy.beyond == "refuse":
        raise TooLarge(f"the sound is {_seconds(file):.4g} s long, this model takes at most {length / policy.sample_rate:.4g} s")
    mono, clipped = _mono(_read(file, min(file.frames, most)))
    mono = _at_rate(mono, file.samplerate, policy.sample_rate)[:length]
    return DecodedSound(
        tensor=_in_frame(mono, declared, length),
        samples=len(mono),
        sent_rate=file.samplerate,
        sent_channels=file.channels,
        sent_seconds=_seconds(file),
        cut=file.frames > most,
        clipped=clipped,
    )


def peek_samples(data: bytes, limits: AudioLimits) -> int:
    """How many samples, of all channels, decoding would give, from the header. Raises BadInput, TooLarge."""
    file = _open(data, limits)
    return int(file.frames * file.channels)


def samples_of(tensor: Array) -> Array:
    """The samples (T,) of a sound's input tensor or of its attributions, (T,), (1, T) or (T, 1)."""
    return tensor.reshape(-1)


def _open(data: bytes, limits: AudioLimits) -> soundfile.SoundFile:
    """The sound, its header read and held against the file's real size, nothing decoded."""
    _require_format(data)
    try:
        file = soundfile.SoundFile(BytesIO(data))
    except soundfile.LibsndfileError as error:  # its text names an object in memory, `error_string` doesn't
        raise _damaged(data, error.error_string) from None
    if data[:4] == b"RIFF" and file.subtype not in _ENCODINGS:
        raise BadInput(f"the WAV sound is encoded as {file.subtype}, expected PCM, float, u-law or A-law")
    _require_rate(file.samplerate)
    if file.frames <= 0:
        raise BadInput("the sound is empty: it has a header and no samples")
    if file.frames >= _UNKNOWN:
        raise BadInput(f"the {file.format} sound's header doesn't say how long it is (as when written to a pipe); expected a whole file")
    if file.frames * file.channels > limits.max_samples:
        raise TooLarge(
            f"the sound has {file.frames} x {file.channels} = {file.frames * file.channels:,} samples, "
            f"the limit is {limits.max_samples:,} (WHYSERVE_MAX_SOUND_SAMPLES)"
        )
    return file


def _require_format(data: bytes) -> None:
    if not data:
        raise BadInput(f"the sound is empty, expected {FORMATS}")
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        _require_whole_wav(data)
    elif data[:4] != b"fLaC":
        raise BadInput(f"not a sound of a known format, expected {FORMATS}")


def _require_whole_wav(data: bytes) -> None:
    """Raises BadInput where samples that the header promises are missing: libsndfile would read the rest without a word.

    And where the rate is absurd.
    """
    place = 12
    while place + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, place)
        place += 8
        if kind == b"fmt " and place + 16 <= len(data):
            _require_rate(*struct.unpack_from("<4xI", data, place))  # here, since libsndfile can't say what is wrong with it
        if kind == b"data":
            if place + size > len(data) and size < _STREAMED:
                raise BadInput(f"the WAV sound is truncated: {place + size - len(data)} of {size} bytes of samples are missing")
            return
        place += size + size % 2  # chunks start at even places
    raise BadInput("the WAV sound is damaged or truncated: it has no samples (no data chunk)")


def _require_rate(rate: int) -> None:
    if not _RATES[0] <= rate <= _RATES[1]:
        raise BadInput(f"the sound's header says {rate} samples a second, expected {_RATES[0]} to {_RATES[1]}")


def _read(file: soundfile.SoundFile, frames: int) -> Array:
    """The first `frames` of the sound, float32 (frames, channels)."""
    try:
        samples = file.read(frames, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        reason = error.error_string or "its samples can't be decoded"
        raise BadInput(f"the {file.format} sound is damaged or truncated: {reason}") from None
    if len(samples) < frames:
        raise BadInput(f"the {file.format} sound is truncated: it has {len(samples)} samples a channel, its header says {file.frames}")
    return np.asarray(samples)


def _mono(samples: Array) -> tuple[Array, int]:
    """The mean of the channels, float32 (frames,), -1 to 1, and how many samples were clipped for that."""
    if not np.isfinite(samples).all():
        raise BadInput("the sound holds NaN or infinity")
    peak = float(np.abs(samples).max())
    if peak == 0:
        raise BadInput("the sound is silent: every sample is 0")
    if peak > _LOUDEST:
        raise BadInput(f"the sound's float samples reach {peak:.4g}, expected -1 to 1")
    clipped = int(np.count_nonzero(np.abs(samples) > 1)) if peak > 1 else 0
    if clipped:
        samples = samples.clip(-1, 1)
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    if not mono.any():
        raise BadInput("the sound is silent once its channels are mixed: they cancel each other out")
    return mono, clipped


def _at_rate(mono: Array, sent: int, wanted: int) -> Array:
    if sent == wanted:
        return mono
    resampled = np.asarray(soxr.resample(mono, sent, wanted))
    if not len(resampled):
        raise BadInput(f"the sound is too short: {len(mono)} samples at {sent} Hz are none at this model's {wanted} Hz")
    return resampled.clip(-1, 1)  # a band-limited wave swings a little beyond the samples that it was made from


def _longest(declared: Input) -> int:
    """The most samples that the model hears."""
    policy = declared.audio
    assert policy is not None
    allowed = max(1, round(policy.max_seconds * policy.sample_rate))
    fixed = fixed_length(declared)
    return allowed if fixed is None else min(allowed, fixed)


def fixed_length(declared: Input) -> int | None:
    """The number of samples that the graph takes, None where it varies."""
    sizes = [size for size in declared.shape if size != 1]
    return sizes[0] if sizes else 1


def _in_frame(mono: Array, declared: Input, length: int) -> Array:
    """The samples in the input's dtype and shape, with silence behind them where the model takes one length only."""
    policy = declared.audio
    assert policy is not None
    frame = fixed_length(declared) or (length if policy.pad_to_max else len(mono))
    padded = np.zeros(frame, declared.dtype)
    padded[: len(mono)] = mono
    return padded.reshape([1 if size == 1 else frame for size in declared.shape])


def _seconds(file: soundfile.SoundFile) -> float:
    return float(file.frames / file.samplerate)


def _damaged(data: bytes, reason: str) -> BadInput:
    kind = "FLAC" if data[:4] == b"fLaC" else "WAV"
    return BadInput(f"the {kind} sound is damaged or truncated: {reason.rstrip('.') or 'its header is invalid'}")


def sound_fields(sound: DecodedSound, policy: AudioPolicy) -> dict[str, Any]:
    """What maps attributions back to the sound as it was sent: attribution i is at i / sample_rate seconds of it."""
    return {
        "sample_rate": policy.sample_rate,
        "samples": sound.samples,
        "sent_rate": sound.sent_rate,
        "sent_channels": sound.sent_channels,
        "sent_seconds": sound.sent_seconds,
    }

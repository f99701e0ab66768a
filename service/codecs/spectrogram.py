"""Samples to short-time spectra and back, exactly: for pictures of a sound and for changing it by time and frequency. numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_FRAME_SECONDS = 0.032
"""Long enough to part the harmonics of a voice, short enough to part its consonants."""
_FEWEST = 16


@dataclass(frozen=True, slots=True)
class Frames:
    """Overlapping frames of `window` samples under a Hann window, one every `hop` samples, of a sound at `rate` Hz.

    Frame f is centred at sample f * hop; before the sound and behind it there is silence, so that each sample is in
    window / hop frames and `inverse(transform(x), len(x))` is x.
    """

    window: int
    hop: int
    rate: int

    def __post_init__(self) -> None:
        if self.window % 2 or self.hop < 1 or self.window < 2 * self.hop:
            raise ValueError(f"expected an even window of at least two hops, got window {self.window} and hop {self.hop}")

    @classmethod
    def of_rate(cls, rate: int) -> Frames:
        """About 32 ms, a power of two, with three quarters of overlap."""
        window = max(_FEWEST, 1 << round(np.log2(rate * _FRAME_SECONDS)))
        return cls(window, window // 4, rate)

    def count(self, samples: int) -> int:
        """How many frames a sound of so many samples has."""
        return 1 + -(-samples // self.hop)

    @property
    def frequencies(self) -> Array:
        """Hz of each row of a spectrum, (window // 2 + 1,)."""
        return np.fft.rfftfreq(self.window, 1 / self.rate)

    def times(self, samples: int) -> Array:
        """Seconds of the middle of each frame, (frames,)."""
        return np.arange(self.count(samples)) * (self.hop / self.rate)

    def transform(self, samples: Array) -> Array:
        """Spectra, complex (.., window // 2 + 1, frames), of real `samples` (.., T)."""
        *before, length = samples.shape
        padded = np.zeros((*before, self._span(length)))
        padded[..., self.window // 2 : self.window // 2 + length] = samples
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.window, axis=-1)[..., :: self.hop, :]  # (.., frames, window)
        return np.fft.rfft(frames * self._hann(), axis=-1).swapaxes(-1, -2)

    def inverse(self, spectra: Array, length: int) -> Array:
        """Samples, float64 (.., length), of spectra (.., window // 2 + 1, frames), whether a sound has them or not.

        Of all sounds the one whose spectra come closest to those given, by least squares (Griffin & Lim 1984,
        doi:10.1109/TASSP.1984.1164317).
        """
        frames = np.fft.irfft(spectra.swapaxes(-1, -2), self.window, axis=-1) * self._hann()  # (.., frames, window)
        return self._added(frames, length) / self.overlap(length)

    def overlap(self, length: int) -> Array:
        """The sum of the squared windows over each sample, (length,): what the inverse divides by."""
        return self._added(np.broadcast_to(self._hann() ** 2, (self.count(length), self.window)), length)

    def _added(self, frames: Array, length: int) -> Array:
        """Frames (.., frames, window) added up at their places, (.., length)."""
        summed = np.zeros((*frames.shape[:-2], self._span(length)))
        for number in range(self.count(length)):
            summed[..., number * self.hop : number * self.hop + self.window] += frames[..., number, :]
        return summed[..., self.window // 2 : self.window // 2 + length]

    def _span(self, length: int) -> int:
        return (self.count(length) - 1) * self.hop + self.window

    def _hann(self) -> Array:
        """Periodic, so that frames a quarter of it apart sum to a constant."""
        return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window) / self.window)


def decibels(spectra: Array, range_db: float = 70.0) -> Array:
    """Magnitudes in decibels below the strongest one, -range_db to 0; all -range_db where everything is silent."""
    power = np.abs(spectra) ** 2
    strongest = power.max(initial=0.0)
    if strongest == 0:
        return np.full(power.shape, -range_db)
    return np.asarray(10 * np.log10(np.maximum(power / strongest, 10 ** (-range_db / 10))))

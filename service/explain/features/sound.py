"""Features of a sound: patches of its spectrogram, stretches of time by bands of frequency.

A sound's samples say little one by one. So its short-time spectrum is cut into patches, a patch that is absent is replaced
by the baseline's, and the mixed spectrum is turned back into samples, which the model then hears.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.codecs.spectrogram import Frames

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Patches:
    """Of a sound of so many `samples`; `frames` tells its short-time spectra. Bands are evenly wide in mel, as we hear."""

    frames: Frames
    samples: int
    shape: tuple[int, ...]
    """Of the input without the batch axis: `samples` and ones."""
    stretches: int
    bands: int

    @classmethod
    def about(cls, count: int, rate: int, shape: tuple[int, ...]) -> Patches:
        """About `count` of them, as many stretches as bands where the sound is long enough."""
        frames, samples = Frames.of_rate(rate), math.prod(shape)
        bands = max(1, min(round(math.sqrt(count)), len(frames.frequencies) - 1))
        edges = _mel_edges(frames.frequencies, bands)
        stretches = max(1, min(round(count / (len(edges) - 1)), _nearest_frame(frames, samples - 1) + 1))
        return cls(frames, samples, shape, stretches, bands)

    @property
    def count(self) -> int:
        return self.stretches * (len(self.band_edges) - 1)

    @property
    def described(self) -> Mapping[str, Any]:
        return {"kind": "patches", "count": self.count, "stretches": self.stretches, "bands": len(self.band_edges) - 1}

    @cached_property
    def band_edges(self) -> Array:
        """Rows of the spectrum where bands begin, and its number of rows: (bands + 1,)."""
        return _mel_edges(self.frames.frequencies, self.bands)

    @cached_property
    def _stretch_of_frame(self) -> Array:
        heard = _nearest_frame(self.frames, self.samples - 1) + 1  # those that are a sample's nearest one; the others end the last stretch
        return np.asarray(np.minimum(np.arange(self.frames.count(self.samples)), heard - 1) * self.stretches // heard)

    @cached_property
    def _stretch_of_sample(self) -> Array:
        """(samples,): that of the frame whose middle is nearest."""
        return np.asarray(self._stretch_of_frame[_nearest_frame(self.frames, np.arange(self.samples))])

    @cached_property
    def _patch_of_bin(self) -> Array:
        """(rows, frames) of the spectrum."""
        band_of_row = np.searchsorted(self.band_edges, np.arange(len(self.frames.frequencies)), side="right") - 1
        return self._stretch_of_frame[None, :] * (len(self.band_edges) - 1) + band_of_row[:, None]

    def mix(self, present: Array, x: Array, absent: Array) -> Array:
        other = absent.reshape(-1, self.samples).astype(np.float64)
        difference = self.frames.transform(x.reshape(1, self.samples) - other)  # (1 or N, rows, frames)
        kept = difference * present[:, self._patch_of_bin]  # (N, rows, frames)
        mixed = other + self.frames.inverse(kept, self.samples)
        return mixed.reshape(-1, *self.shape).astype(x.dtype)

    def idle(self, x: Array, absent: Array) -> Array:
        """As where both are silent."""
        difference = self.frames.transform(x.reshape(1, self.samples) - absent.reshape(-1, self.samples).astype(np.float64))
        changed = np.bincount(self._patch_of_bin.reshape(-1), np.abs(difference).max(0).reshape(-1), self.count)
        return np.asarray(changed == 0)

    def spread(self, values: Array) -> Array:
        """A patch's attribution evenly over the samples of its stretch of time, whatever its frequencies."""
        of_stretch = values.reshape(self.stretches, -1).sum(1)
        lengths = np.bincount(self._stretch_of_sample, minlength=self.stretches)
        return np.asarray((of_stretch / lengths)[self._stretch_of_sample], np.float32).reshape(self.shape)

    def drawing(self, values: Array) -> Mapping[str, Any]:
        """`seconds` (stretches + 1) and `hertz` (bands + 1) are the patches' edges, `values` [band][stretch]."""
        starts = np.searchsorted(self._stretch_of_sample, np.arange(self.stretches))
        rows = self.frames.rate / self.frames.window  # Hz a row
        return {
            "time_frequency": {
                "seconds": [*(starts / self.frames.rate).tolist(), self.samples / self.frames.rate],
                "hertz": [0.0, *((self.band_edges[1:-1] - 0.5) * rows).tolist(), self.frames.rate / 2],
                "values": values.reshape(self.stretches, -1).T.tolist(),
            }
        }


def _nearest_frame(frames: Frames, sample: Any) -> Any:
    return (sample + frames.hop // 2) // frames.hop


def _mel_edges(frequencies: Array, bands: int) -> Array:
    """Where bands that are evenly wide in mel begin, as rows of the spectrum, none of them empty."""
    mel = 2595 * np.log10(1 + frequencies / 700)
    starts = np.searchsorted(mel, np.linspace(0, mel[-1], bands + 1)[:-1])
    return np.asarray([*np.unique(starts), len(frequencies)])

"""Attributions of a sound by time and frequency: of patches that a method took away, or of the samples' own spectra, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.codecs.spectrogram import Frames

Array = npt.NDArray[Any]

_PRODUCTS = frozenset({"integrated_gradients", "input_x_gradient", "deep_lift"})
"""Methods whose attribution of a sample is the sample, from a baseline of silence, times some slope."""
_SILENCE = ("zero", 0, 0.0, None)


@dataclass(frozen=True, slots=True, eq=False)
class TimeFrequency:
    """`values` (bands, stretches), low bands first, between the edges `hertz` (bands + 1,) and `seconds` (stretches + 1,)."""

    seconds: Array
    hertz: Array
    values: Array

    @classmethod
    def of_field(cls, field: Mapping[str, Any]) -> TimeFrequency:
        """From an explanation's field `time_frequency`."""
        return cls(np.asarray(field["seconds"], float), np.asarray(field["hertz"], float), np.asarray(field["values"], float))

    @classmethod
    def of_products(cls, samples: Array, attributions: Array, rate: int) -> TimeFrequency:
        """Attributions that are each a sample times a slope, told of the sound's short-time spectra instead of its samples.

        The model is put behind the inverse transform, a linear map, as a virtual first layer: a bin's attribution is the bin
        times the slope that it gets through that map, so the sum stays what it was (Vielhaben, Lapuschkin, Montavon, Samek
        2024, doi:10.1016/j.patcog.2024.110309). The slope at a sample of exactly 0 can't be known from its attribution of 0
        and is taken as 0, which changes where a little stands and not the sum. `samples` and `attributions` are (T,).
        """
        frames = Frames.of_rate(rate)
        slopes = np.divide(attributions, samples, out=np.zeros(len(samples)), where=samples != 0)
        spectra, gradients = frames.transform(samples), frames.transform(slopes / frames.overlap(len(samples)))
        twice = np.full(len(frames.frequencies), 2.0)  # the rows that stand for their negative frequencies too
        twice[[0, -1]] = 1.0
        values = (twice / frames.window)[:, None] * (spectra * gradients.conj()).real  # (frequencies, frames)
        seconds = np.clip((np.arange(values.shape[1] + 1) - 0.5) * frames.hop / rate, 0, len(samples) / rate)
        hertz = np.clip((np.arange(values.shape[0] + 1) - 0.5) * rate / frames.window, 0, rate / 2)
        return cls(seconds, hertz, values)

    def at(self, seconds: Array, hertz: Array) -> Array:
        """The values at these times and frequencies, (frequencies, times)."""
        row = np.searchsorted(self.hertz, hertz, side="right").clip(1, len(self.hertz) - 1) - 1
        column = np.searchsorted(self.seconds, seconds, side="right").clip(1, len(self.seconds) - 1) - 1
        return np.asarray(self.values[row[:, None], column[None, :]])


def is_product(fields: Mapping[str, Any], name: str) -> bool:
    """Whether an explanation's attributions of input `name` are samples times slopes; judged by its method and baseline."""
    baseline = (fields.get("parameters") or {}).get("baseline")
    if isinstance(baseline, Mapping):
        baseline = baseline.get(name, baseline.get("kind"))
    return fields.get("method") in _PRODUCTS and not isinstance(baseline, list) and baseline in _SILENCE

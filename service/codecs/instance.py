"""One instance as it was sent, value by input, to the tensors of one row: picks the codec that the manifest names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from service.codecs.audio import AudioLimits, DecodedSound, decode_sound, peek_samples
from service.codecs.image import DecodedImage, ImageLimits, decode_image, peek_pixels
from service.codecs.table import decode_row
from service.codecs.tensor import check_tensor, decode_tensor
from service.codecs.text import DecodedText, TextDecoder
from service.errors import BadInput, TooLarge
from service.manifest import Input, Manifest

Array = np.ndarray[Any, Any]

_QUICK_PIXELS = 256 * 256
_QUICK_CHARACTERS = 4096
_QUICK_SAMPLES = 1 << 16


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings that bound what an instance may cost."""

    max_pixels: int
    max_characters: int
    max_instances: int
    max_sound_samples: int = 24_000_000


@dataclass(slots=True, eq=False)
class Instance:
    """A row: `tensors` by graph input without the batch axis, and what drawing an explanation on it needs.

    Not frozen only because each prediction makes one, and that would take six times as long.
    """

    tensors: dict[str, Array]
    images: dict[str, DecodedImage]
    """By input: pictures that were sent encoded, with their geometry."""
    encoded: dict[str, bytes]
    """By input: those pictures as they were sent."""
    texts: dict[str, DecodedText]
    warnings: tuple[str, ...] = ()
    sounds: dict[str, DecodedSound] = field(default_factory=dict)
    """By input: sounds that were sent encoded."""

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tensor.shape for tensor in self.tensors.values())


class InstanceDecoder:
    """Decodes instances of one model. Construction raises OSError or ValueError where the tokenizer file can't be read."""

    def __init__(self, manifest: Manifest, folder: Path, limits: Limits) -> None:
        self._inputs = manifest.inputs
        self._limits = limits
        self._batches = tuple(_as_batch(declared) for declared in graph_inputs(manifest))
        self._images = ImageLimits(max_pixels=limits.max_pixels)
        self._sounds = AudioLimits(max_samples=limits.max_sound_samples)
        self._texts = {
            i.name: TextDecoder((folder / i.text.tokenizer).read_bytes(), i.text, max_characters=limits.max_characters)
            for i in manifest.inputs
            if i.text
        }

    def pixels(self, sent: Mapping[str, Any]) -> int:
        """How many pixels, and samples of sound, decoding this instance will hold, from the headers. Raises BadInput, TooLarge."""
        pictures = (value for i in self._inputs if i.image and isinstance(value := sent.get(i.name), bytes))
        sounds = (value for i in self._inputs if i.audio and isinstance(value := sent.get(i.name), bytes))
        return sum(peek_pixels(value, self._images) for value in pictures) + sum(peek_samples(value, self._sounds) for value in sounds)

    def is_quick(self, sent: Mapping[str, Any]) -> bool:
        """Whether decoding takes less than a hop to a thread and back. Raises BadInput, TooLarge by a header."""
        for declared in self._inputs:
            value = sent.get(declared.name)
            if declared.image:
                if isinstance(value, bytes) and peek_pixels(value, self._images) > _QUICK_PIXELS:
                    return False
            elif declared.audio:
                if isinstance(value, bytes) and peek_samples(value, self._sounds) > _QUICK_SAMPLES:
                    return False
            elif declared.text and isinstance(value, bytes | str) and len(value) > _QUICK_CHARACTERS:
                return False
        return True

    def decode(self, sent: Mapping[str, Any]) -> Instance:
        """The row's tensors. Raises BadInput, TooLarge, UnknownChoice: what was wrong and what was expected."""
        instance = Instance({}, {}, {}, {})
        warnings: list[str] = []
        for declared in self._inputs:
            if declared.name not in sent:
                raise BadInput(f"input {declared.name!r} is missing; this model takes {[i.name for i in self._inputs]}")
            self._decode_input(declared, sent[declared.name], instance, warnings)
        if len(sent) > len(self._inputs):
            unknown = sorted(set(sent) - {i.name for i in self._inputs})
            raise BadInput(f"unknown input {unknown[0]!r}; this model takes {[i.name for i in self._inputs]}")
        return replace(instance, warnings=tuple(warnings)) if warnings else instance

    def decode_value(self, name: str, value: Any) -> Array:
        """The tensor of one input alone, without the batch axis. Raises BadInput, TooLarge, UnknownChoice."""
        instance = Instance({}, {}, {}, {})
        self._decode_input(next(i for i in self._inputs if i.name == name), value, instance, [])
        return instance.tensors[name]

    def _decode_input(self, declared: Input, value: Any, instance: Instance, warnings: list[str]) -> None:
        name = declared.name
        if declared.image and isinstance(value, bytes):
            picture = decode_image(value, declared.image, declared.dtype, self._images)
            instance.tensors[name] = picture.tensor
            instance.images[name] = picture
            instance.encoded[name] = value
        elif declared.text and isinstance(value, bytes | str):
            text = self._texts[name].decode(value)
            instance.tensors[name] = text.ids
            instance.texts[name] = text
            if declared.text.lengths:
                instance.tensors[declared.text.lengths] = np.array(len(text.ids), np.int64)
            if text.truncated_at is not None:
                warnings.append(f"the text was cut after {len(text.ids)} tokens, at character {text.truncated_at}")
        elif declared.audio and isinstance(value, bytes):
            sound = decode_sound(value, declared, self._sounds)
            instance.tensors[name] = sound.tensor
            instance.sounds[name] = sound
            warnings += sound.warnings(declared.audio.sample_rate)
        elif declared.table:
            instance.tensors[name] = decode_row(value, declared)
        elif isinstance(value, bytes):
            raise BadInput(f"input {name!r} takes a tensor as nested lists, got an encoded value")
        else:
            instance.tensors[name] = decode_tensor(value, declared)
            if declared.text and declared.text.lengths:
                instance.tensors[declared.text.lengths] = np.array(len(instance.tensors[name]), np.int64)

    def check(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Whole batches (n, ...) by graph input, as they are where they fit. Raises BadInput, TooLarge.

        A length of tokens that is left out is the whole row's.
        """
        known = [batch.name for batch in self._batches]
        unknown = sorted(set(arrays) - set(known))
        if unknown:
            raise BadInput(f"unknown input {unknown[0]!r}; this model takes {known}")
        arrays = {**self._whole_lengths(arrays), **arrays}
        missing = [name for name in known if name not in arrays]
        if missing:
            raise BadInput(f"input {missing[0]!r} is missing; this model takes {known}")
        feeds = {batch.name: check_tensor(arrays[batch.name], batch) for batch in self._batches}
        self._check_lengths(feeds)
        rows = {name: len(array) for name, array in feeds.items()}
        if len(set(rows.values())) != 1:
            raise BadInput(f"the inputs have different numbers of rows: {rows}")
        if max(rows.values()) > self._limits.max_instances:
            raise TooLarge(f"{max(rows.values())} rows, at most {self._limits.max_instances} (setting WHYSERVE_MAX_INSTANCES)")
        return feeds

    def _check_lengths(self, feeds: Mapping[str, Array]) -> None:
        for name, policy in ((i.name, i.text) for i in self._inputs if i.text):
            if policy.lengths is None:
                continue
            lengths, longest = feeds[policy.lengths], feeds[name].shape[1]
            if lengths.size and not 1 <= int(lengths.min()) <= int(lengths.max()) <= longest:
                raise BadInput(f"input {policy.lengths!r}: got {lengths.min()} to {lengths.max()}, expected 1 to {longest} as {name!r} has")

    def _whole_lengths(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        return {
            i.text.lengths: np.full(arrays[i.name].shape[0], arrays[i.name].shape[1], np.int64)
            for i in self._inputs
            if i.text and i.text.lengths and i.name in arrays and arrays[i.name].ndim == 2
        }


def graph_inputs(manifest: Manifest) -> tuple[Input, ...]:
    """The graph's inputs: those that a client sends, and the lengths that come with a text's tokens."""
    lengths = [i.text.lengths for i in manifest.inputs if i.text and i.text.lengths]
    derived = (Input(name=name, codec="tensor", dtype="int64", shape=()) for name in lengths)
    return (*manifest.inputs, *(i for i in derived if i.name not in {declared.name for declared in manifest.inputs}))


def _as_batch(declared: Input) -> Input:
    return declared.model_copy(update={"shape": (None, *declared.shape)})

"""Texts to token ids with spans of the text as it was sent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from service.errors import BadInput, TooLarge
from service.manifest import TextPolicy


@dataclass(frozen=True, slots=True)
class Token:
    """`start` to `end`, half-open, in Unicode code points of the text as sent; `text` is that part of it."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class DecodedText:
    ids: npt.NDArray[np.int64]
    """(T,), unpadded."""
    tokens: tuple[Token | None, ...]
    """One for each id; None for special tokens."""
    truncated_at: int | None
    """The code point where the text was cut, None where all of it was read."""
    text: str
    """As sent, decoded."""


class TextDecoder:
    """A bundle's tokenizer with its policy. Construction raises ValueError where the tokenizer file can't be read."""

    def __init__(self, tokenizer: bytes, policy: TextPolicy, *, max_characters: int) -> None:
        try:
            self._tokenizer = Tokenizer.from_buffer(tokenizer)
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"the tokenizer file can't be read: {error}") from None
        # the policy decides about both, whatever the file says; the library's own truncation keeps special tokens
        self._tokenizer.enable_truncation(policy.max_length)
        self._tokenizer.no_padding()
        self._policy = policy
        self._max_characters = max_characters

    def decode(self, text: str | bytes) -> DecodedText:
        """The tokens of a text (bytes: UTF-8). Raises BadInput for an empty one, TooLarge beyond the limits or where the
        policy refuses what is longer than `max_length` tokens."""
        text = self._checked(text)
        encoding = self._encode(text)
        if all(encoding.special_tokens_mask):
            raise BadInput("the text holds no token that this model can read")
        cut = max(end for _, end in encoding.offsets) if encoding.overflowing else None
        tokens = tuple(
            None if special else Token(text[start:end], start, end)
            for special, (start, end) in zip(encoding.special_tokens_mask, encoding.offsets, strict=True)
        )
        return DecodedText(np.array(encoding.ids, np.int64), tokens, cut, text)

    def _encode(self, text: str) -> Encoding:
        try:
            encoding = self._tokenizer.encode(text)
        except Exception as error:  # the library raises bare Exception, such as for a word when its vocabulary has no unknown token
            raise BadInput(f"this model's tokenizer can't read the text: {error}") from None
        if encoding.overflowing and self._policy.beyond == "refuse":
            raise TooLarge(f"the text has more than {self._policy.max_length} tokens, which is the most that this model takes")
        return encoding

    def _checked(self, text: str | bytes) -> str:
        if isinstance(text, bytes):
            self._require_length(-(-len(text) // 4), "at least ")  # UTF-8 takes at most four bytes a character
            try:
                text = text.decode("utf-8")
            except UnicodeDecodeError as error:
                raise BadInput(f"the text isn't valid UTF-8: {error.reason} at byte {error.start}") from None
        self._require_length(len(text), "")
        if not text.strip():
            raise BadInput("the text is empty, expected at least one word")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise BadInput(f"the text holds a lone surrogate at character {error.start}, which is no Unicode text") from None
        return text

    def _require_length(self, characters: int, least: str) -> None:
        if characters > self._max_characters:
            raise TooLarge(f"the text has {least}{characters} characters, the limit is {self._max_characters} (WHYSERVE_MAX_CHARACTERS)")

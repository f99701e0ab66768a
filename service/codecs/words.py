"""Which word of a text each of its tokens belongs to."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from service.codecs.text import DecodedText


def words(decoded: DecodedText) -> npt.NDArray[np.int64]:
    """A number for each token (T,), the same for the tokens of one word: what stands between white space in the text as it was
    sent. A special token, and one of white space alone, is a word of its own."""
    numbers = []
    word_at = _word_of_each_character(decoded.text)
    for place, token in enumerate(decoded.tokens):
        text = "" if token is None else decoded.text[token.start : token.end]
        if token is None or not text.strip():
            numbers.append(-1 - place)
        else:
            numbers.append(word_at[token.start + len(text) - len(text.lstrip())])
    return np.asarray(numbers, np.int64)


def _word_of_each_character(text: str) -> list[int]:
    numbers, word, inside = [], -1, False
    for character in text:
        starts = not character.isspace() and not inside
        word += starts
        inside = not character.isspace()
        numbers.append(max(word, 0))
    return numbers

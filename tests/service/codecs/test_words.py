"""Tokens to words by the white space of the text as sent."""

from __future__ import annotations

import numpy as np
import pytest

from service.codecs.text import DecodedText, Token
from service.codecs.words import words


def _decoded(text: str, *spans: tuple[int, int] | None) -> DecodedText:
    tokens = tuple(None if span is None else Token(text[slice(*span)], *span) for span in spans)
    return DecodedText(np.zeros(len(spans), np.int64), tokens, None, text)


@pytest.mark.parametrize(
    ("decoded", "expected"),
    [
        (_decoded("no fun", (0, 2), (3, 6)), [0, 1]),
        (_decoded("doesn't, it?", (0, 4), (4, 7), (7, 8), (9, 11), (11, 12)), [0, 0, 0, 1, 1]),
        (_decoded("  a\n\tb ", (2, 3), (5, 6)), [0, 1]),
        (_decoded("a bc", None, (0, 1), (1, 3), (3, 4), None), [-1, 0, 1, 1, -5]),  # a token may begin with its space
        (_decoded("a b", (0, 1), (1, 2), (2, 3)), [0, -2, 1]),  # or be one
        (_decoded("日本 語", (0, 1), (1, 2), (3, 4)), [0, 0, 1]),
    ],
)
def test_a_word_is_what_stands_between_white_space(decoded, expected) -> None:
    assert words(decoded).tolist() == expected

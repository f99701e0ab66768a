"""Texts to tokens: spans in code points of the text as sent, truncation, refusals."""

from __future__ import annotations

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from service.codecs.text import TextDecoder, Token
from service.errors import BadInput, TooLarge
from service.manifest import TextPolicy

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "film", "is", "n't", "good", "café", "😀"]


def word_level(*, special=False, unknown="[UNK]"):
    """Lower-cases and splits n't off, as the training text of SST-2 has it."""
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token=unknown))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase(), normalizers.Replace(Regex("n't"), " n't")])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if special:
        tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return tokenizer.to_str().encode()


def decoder(tokenizer=None, *, max_length=8, beyond="truncate", max_characters=1000):
    return TextDecoder(tokenizer or word_level(), TextPolicy(max_length=max_length, beyond=beyond), max_characters=max_characters)


def test_tokens_point_into_the_text_as_sent():
    text = "😀  The CAFÉ isn't good"
    decoded = decoder().decode(text)
    assert [WORDS[index] for index in decoded.ids] == ["😀", "the", "café", "is", "n't", "good"]
    assert decoded.ids.dtype == "int64"
    spans = [(token.start, token.end, token.text) for token in decoded.tokens]
    assert spans == [
        (0, 1, "😀"),
        (3, 6, "The"),
        (7, 11, "CAFÉ"),
        (12, 14, "is"),
        (16, 17, "t"),  # the library's own span of what a normaliser replaced
        (18, 22, "good"),
    ]
    assert all(text[start:end] == part for start, end, part in spans)
    assert decoded.truncated_at is None


def test_bytes_are_utf8():
    assert decoder().decode("café".encode()).tokens == (Token("café", 0, 4),)
    with pytest.raises(BadInput, match=r"isn't valid UTF-8: .* at byte 4"):
        decoder().decode(b"the \xff film")


def test_special_tokens_have_no_span():
    decoded = decoder(word_level(special=True)).decode("the film")
    assert decoded.ids.tolist() == [2, 4, 5, 3]
    assert decoded.tokens == (None, Token("the", 0, 3), Token("film", 4, 8), None)


@pytest.mark.parametrize("special", [False, True])
def test_truncation_says_where(special):
    decoded = decoder(word_level(special=special), max_length=4).decode("the film is good the film")
    kept = ["[CLS]", "the", "film", "[SEP]"] if special else ["the", "film", "is", "good"]
    assert [WORDS[index] for index in decoded.ids] == kept
    assert decoded.truncated_at == (8 if special else 16)


def test_exactly_max_length_is_not_truncated():
    assert decoder(max_length=2).decode("the film").truncated_at is None


def test_the_files_own_padding_and_truncation_dont_count():
    tokenizer = Tokenizer.from_str(word_level().decode())
    tokenizer.enable_padding(length=6)
    tokenizer.enable_truncation(1)
    assert decoder(tokenizer.to_str().encode()).decode("the film").ids.tolist() == [4, 5]


@pytest.mark.parametrize("text", ["", "   \n\t", b"", b" "])
def test_an_empty_text_is_refused(text):
    with pytest.raises(BadInput, match="the text is empty"):
        decoder().decode(text)


def test_a_text_without_tokens_is_refused():
    tokenizer = Tokenizer.from_str(word_level(special=True).decode())
    tokenizer.normalizer = normalizers.Replace(Regex("[^a-z]"), "")
    with pytest.raises(BadInput, match="no token"):
        decoder(tokenizer.to_str().encode()).decode("123 !")


def test_the_character_limit_counts_code_points():
    assert len(decoder(max_characters=3).decode("😀😀😀").ids) == 1
    for text in ("😀😀😀😀", "😀😀😀😀".encode(), "a" * 4):
        with pytest.raises(TooLarge, match=r"the text has (at least )?4 characters, the limit is 3 \(WHYSERVE_MAX_CHARACTERS\)"):
            decoder(max_characters=3).decode(text)


def test_a_hundred_thousand_words_are_refused_at_once():
    with pytest.raises(TooLarge, match="WHYSERVE_MAX_CHARACTERS"):
        decoder(max_characters=100_000).decode(b"word " * 100_000)


def test_beyond_max_length_by_policy():
    with pytest.raises(TooLarge, match="more than 2 tokens"):
        decoder(max_length=2, beyond="refuse").decode("the film is")


def test_lone_surrogates_are_refused():
    with pytest.raises(BadInput, match="lone surrogate at character 4"):
        decoder().decode("the \ud800 film")


def test_words_that_the_tokenizer_cant_read():
    with pytest.raises(BadInput, match="tokenizer can't read the text"):
        decoder(word_level(unknown="<none>")).decode("zebra")


def test_a_file_that_is_no_tokenizer():
    with pytest.raises(ValueError, match="tokenizer file can't be read"):
        decoder(b"{}")

"""The text model's tokenizer: words as SST-2's files have them, made of what people type.

SST-2's sentences went through two hands before they were published: the Penn Treebank's tokenisation ("does n't",
"it 's", -LRB- for a bracket, `` '' for quotes) and Kim's clean-up (2014, arXiv:1408.5882), which lower-cased them and
replaced all but letters, digits and ``(),!?'` `` by spaces, so that full stops, dashes and accents are gone and "-lrb-"
is "lrb". The file that `build_tokenizer` makes does the same to any text, and keeps offsets into the text as it was sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

PAD, UNKNOWN = "[PAD]", "[UNK]"
PAD_ID, UNKNOWN_ID = 0, 1

CLITICS = r"(?:s|d|m|ll|re|ve)(?![a-z0-9])"
"""What the Treebank cuts off together with its apostrophe: it 's, they 'd, i 'm, we 'll, you 're, we 've."""

ELISIONS = r"(?:em|til|n|tis|twas|cause|\d\d(?:s(?![a-z0-9])|(?![a-z0-9])))"
"""Words that begin with an apostrophe: 'em, 'til, rock 'n, '70s. Theirs is no opening quote."""

VERBS = ("ai", "are", "ca", "could", "did", "do", "does", "had", "has", "have", "is", "must", "should", "was", "were", "wo", "would")

FORGOTTEN_APOSTROPHE = "|".join(rf"(?<=\b{verb}n)t\b" for verb in VERBS)
"""dont, cant, doesnt: the commonest way of typing them, and none of them is a word of the training text.
The t alone is replaced: the n keeps its place in the text as sent."""

NORMALISATION = (
    (Regex("[\u2018\u201b\u2039]"), "`"),
    (Regex("[\u2019\u02bc\u2032\u00b4\uff07]"), "'"),
    (Regex("[\u201c\u201f\u00ab]"), "``"),
    (Regex("[\u201d\u00bb\u2033]"), "''"),
    (Regex(r"[(\[{]"), " lrb "),
    (Regex(r"[)\]}]"), " rrb "),
    # Straight quotes open where a word does, and close elsewhere.
    (Regex(r"""(?<![^\s`'"-])"(?=\S)"""), "``"),
    (Regex('"'), "''"),
)

AFTER_LOWER_CASE = (
    (Regex(rf"""(?<![^\s`"-])'(?=[a-z0-9])(?!{CLITICS})(?!t(?![a-z0-9]))(?!{ELISIONS})"""), "`"),
    (Regex(FORGOTTEN_APOSTROPHE), "'t"),
)

WORDS = Regex(
    "|".join(
        (
            r"n't(?![a-z0-9])",
            rf"'{CLITICS}",
            rf"'{ELISIONS}",
            r"can(?=not(?![a-z0-9]))",
            r"[a-z0-9]+(?=n't(?![a-z0-9]))",
            r"\d+(?:,\d{3})+(?!\d)",
            rf"[a-z0-9]+'(?!{CLITICS})[a-z]{{2,}}",  # o'fallon, d'etre
            r"[a-z0-9]+",
            "``",
            "''",
            r"[!?,'`]",
            # Letters of other alphabets: unknown words, not nothing.
            r"\p{L}[\p{L}\p{M}]*",
        )
    )
)


@dataclass(frozen=True)
class Encoded:
    """Sentences as rows: `tokens` int64 (N, T), padded with `PAD_ID`; `lengths` int64 (N,), tokens before the padding."""

    tokens: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]


def build_tokenizer(texts: Sequence[str], min_count: int) -> Tokenizer:
    """A word-level tokenizer whose vocabulary are the words seen at least `min_count` times in `texts`.

    Ids: 0 padding, 1 unknown, then words by falling count, ties in alphabetical order. Padding and unknown are no special
    tokens: a text that says "[PAD]" is a text about pads.
    """
    tokenizer = Tokenizer(models.WordLevel({PAD: PAD_ID, UNKNOWN: UNKNOWN_ID}, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [
            *(normalizers.Replace(pattern, to) for pattern, to in NORMALISATION),
            # Accented letters lose the accent: Kim's clean-up left "clich s", the data has "cliches" as well, and a word that
            # stays whole gets one number in an explanation.
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            *(normalizers.Replace(pattern, to) for pattern, to in AFTER_LOWER_CASE),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(WORDS, behavior="removed", invert=True)
    counts = Counter(word for text in texts for word in split(tokenizer, text))
    kept = sorted((word for word, count in counts.items() if count >= min_count), key=lambda word: (-counts[word], word))
    tokenizer.model = models.WordLevel(
        {word: index for index, word in enumerate([PAD, UNKNOWN, *kept])},
        unk_token=UNKNOWN,
    )
    return tokenizer


def split(tokenizer: Tokenizer, text: str) -> list[str]:
    """The words of a text in the training text's form, known or not."""
    normalised = tokenizer.normalizer.normalize_str(text)
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normalised)]


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> Encoded:
    """Texts to padded rows of ids."""
    rows = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    lengths = np.array([len(row) for row in rows], np.int64)
    tokens = np.full((len(rows), int(lengths.max())), PAD_ID, np.int64)  # (N, T)
    for padded, row in zip(tokens, rows, strict=True):
        padded[: len(row)] = row
    return Encoded(tokens, lengths)

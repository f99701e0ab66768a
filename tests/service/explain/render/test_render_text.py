"""Coloured texts: escaped, complete, in order; and the same in a terminal."""

from __future__ import annotations

import re
from html import unescape

from service.codecs.text import Token
from service.explain.render.colormap import UNSIGNED
from service.explain.render.text import ansi_legend, legend_html, render_ansi, render_text


def spans(text, *parts):
    tokens, position = [], 0
    for part in parts:
        start = text.index(part, position)
        tokens.append(Token(part, start, start + len(part)))
        position = start + len(part)
    return tokens


def plain(fragment):
    return unescape(re.sub(r"<[^>]*>", "", fragment))


def without_colours(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_the_text_is_whole_and_the_numbers_are_tooltips():
    text = "a  terrific\nfilm, not dull"
    tokens = spans(text, "a", "terrific", "film", ",", "not", "dull")
    fragment = render_text(text, tokens, [0.0, 2.0, 0.5, 0.0, -0.25, -1.5])
    assert plain(fragment).startswith(text)
    assert re.search(r'title="\+2">terrific<', fragment)
    assert re.search(r'title="-1\.5">dull<', fragment)


def colour_of(word, fragment):
    red, green, blue = re.search(rf"background:#(..)(..)(..);[^>]*>{word}<", fragment).groups()
    return int(red, 16), int(green, 16), int(blue, 16)


def test_colours_follow_the_signs():
    text = "good bad so"
    fragment = render_text(text, spans(text, "good", "bad", "so"), [1.0, -1.0, 0.0])
    good, bad, so = (colour_of(word, fragment) for word in ("good", "bad", "so"))
    assert good[0] > good[2] + 80
    assert bad[2] > bad[0] + 80
    assert len(set(so)) == 1


def test_markup_in_the_text_stays_text():
    text = '<script>alert("x")</script> & \x00\x1b[31m'
    fragment = render_text(text, spans(text, "<script>", "alert"), [1.0, -1.0])
    assert "<script" not in fragment
    assert "&lt;script&gt;" in fragment
    assert "\x00" not in fragment
    assert "\x1b" not in fragment
    assert "\x1b[31m" not in render_ansi(text, [], [])


def test_what_was_not_read_is_greyed():
    text = "one two three four"
    fragment = render_text(text, spans(text, "one", "two"), [1.0, 1.0], truncated_at=7)
    assert re.search(r"color:#aaa[^>]*> three four<", fragment)
    assert "up to character 7" in fragment


def test_special_tokens_and_shared_spans_keep_the_sum():
    text = "don't go"
    tokens = [None, Token("don't", 0, 5), Token("n't", 2, 5), Token("go", 6, 8), None]
    fragment = render_text(text, tokens, [0.5, 1.0, 2.0, -1.0, 0.25])
    assert plain(fragment).startswith(text)
    assert 'title="+3">don&#x27;t<' in fragment
    assert "special tokens: +0.75" in fragment


def test_the_terminal_shows_the_same_text():
    text = "a terrific film — 😀 " + "x" * 5
    tokens = spans(text, "a", "terrific", "film", "😀")
    coloured = render_ansi(text, tokens, [0.0, 2.0, -2.0, 0.1], truncated_at=20)
    assert without_colours(coloured) == text
    assert re.search(r"\x1b\[48;2;\d+;\d+;\d+m\x1b\[38;2;[0-9;]+mterrific\x1b\[0m", coloured)
    assert coloured.startswith("a ")  # what has no attribution isn't painted


def test_the_legend_names_both_ends():
    assert plain(legend_html()) == "againstfor"
    assert plain(legend_html(target="<b>")) == "against <b>for <b>"
    assert plain(legend_html(UNSIGNED, "x")) == "no influencestrong"
    assert without_colours(ansi_legend(target="\x1b[1mpos")).split() == ["against", "\ufffd[1mpos", "for", "\ufffd[1mpos"]

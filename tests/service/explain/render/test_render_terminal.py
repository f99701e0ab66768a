"""Answers in a terminal: words, bars and figures; nothing that a terminal would act on."""

from __future__ import annotations

import re

from service.explain.render.terminal import render_terminal

FIELDS = {
    "method": "integrated_gradients",
    "explained": "logit",
    "signed": True,
    "target": {"label": "positive", "index": 1},
    "completeness_error": 0.004,
    "parity_error": 1e-7,
    "parameters": {"baseline": "zero"},
    "warnings": [],
    "seconds": 0.1,
}
TEXT = FIELDS | {"tokens": [None, {"text": "good", "start": 0, "end": 4}], "attributions": [0.0, 1.0]}
PREDICTION = {"label": "positive", "index": 1, "probability": 0.9}


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_a_texts_words_are_coloured_under_what_was_predicted_and_over_the_legend():
    lines = plain(render_terminal("good", {"predictions": [PREDICTION], "explanations": [TEXT]})).splitlines()
    assert lines[0] == "Why positive (90.0%)"
    assert lines[2] == "integrated gradients of the logit, baseline zero  (completeness error 0.40%  parity error 1e-07  seconds 0.1)"
    assert lines[4] == "good"
    assert lines[6].startswith("against positive ")
    assert lines[6].endswith(" for positive")
    assert re.search(
        r"\x1b\[48;2;[0-9;]+m\x1b\[38;2;[0-9;]+mgood\x1b\[0m",
        render_terminal("good", {"predictions": [PREDICTION], "explanations": [TEXT]}),
    )


def test_numbers_become_bars_by_name_the_largest_first():
    answer = {"predictions": [{"value": 5.5}], "explanations": [FIELDS | {"target": {"index": 0}, "attributions": [0.5, -2.0, 0.0]}]}
    shown = plain(render_terminal("", answer)).splitlines()
    assert shown[0] == "Why 5.5"
    rows = [line.split()[:2] for line in shown if line.startswith("[")]
    assert rows == [["[1]", "-2"], ["[0]", "+0.5"], ["[2]", "+0"]]
    columns = FIELDS | {"attributions": [0.5, -2.0], "columns": ["sugar", "pH"]}
    shown = plain(render_terminal("", {"predictions": [{"value": 5.5}], "explanations": [columns]}))
    assert re.findall(r"(sugar|pH) +([+-][\d.]+)", shown) == [("pH", "-2"), ("sugar", "+0.5")]
    several = {"predictions": [{}], "explanations": [FIELDS | {"attributions": {"latent": [1.0], "class": -3.0}}]}
    rows = [line.split()[:2] for line in plain(render_terminal("", several)).splitlines() if re.match(r" *(class|latent)", line)]
    assert rows == [["class", "-3"], ["latent[0]", "+1"]]


def test_a_picture_is_not_poured_into_the_terminal():
    answer = {"predictions": [PREDICTION], "explanations": [FIELDS | {"attributions": [[[0.1]] * 28] * 28}]}
    shown = plain(render_terminal("", answer))
    assert "--output why.png or why.html draws the attributions" in shown
    assert "0.1 " not in shown


def test_several_methods_with_verdicts_warnings_and_their_agreement():
    saliency = TEXT | {
        "method": "saliency",
        "signed": False,
        "warnings": ["cut"],
        "verdict": "Not trustworthy.",
        "completeness_error": None,
    }
    agreement = [{"methods": ["integrated_gradients", "saliency"], "spearman": [[1.0, None], [None, 1.0]]}]
    shown = plain(render_terminal("good", {"predictions": [PREDICTION], "explanations": [TEXT, saliency], "agreement": agreement}))
    assert shown.count("\ngood\n") == 2
    assert "warning: cut" in shown
    assert "verdict: Not trustworthy." in shown
    assert "no influence" in shown
    assert "integrated gradients   1.00     -" in shown


def test_nothing_reaches_the_terminal_as_a_command():
    hostile = FIELDS | {
        "attributions": {"a\x1b[2J": 1.0},
        "warnings": ["\x1b]0;title\x07"],
        "target": {"label": "\x1b[1mx"},
        "verdict": "\x9b1m",
    }
    shown = plain(render_terminal("", {"predictions": [{"label": "\x1b[5m", "index": 0}], "explanations": [hostile]}))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)


def test_an_answer_about_several_instances_is_left_to_json():
    assert render_terminal("", {"predictions": [PREDICTION] * 2, "explanations": [TEXT] * 2}) == ""
    assert render_terminal("", {}) == ""
    assert "good" not in render_terminal("good", {"predictions": [PREDICTION], "explanations": [TEXT | {"attributions": None}]})

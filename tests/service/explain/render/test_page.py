"""Pages load nothing, run nothing, and escape what they are told."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
from PIL import Image

from service.explain.render.page import Section, image_html, render_page


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.open, self.seen, self.attributes = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_page_is_balanced_and_escaped():
    hostile = '</title><script>alert(1)</script>"&'
    page = render_page(hostile, [Section(hostile, "<p>fine</p>", ((hostile, hostile),), (hostile,))], hostile)
    tags = Tags(page)
    assert tags.open == []
    assert "script" not in tags.seen
    assert page.startswith("<!doctype html>")
    assert page.count("&lt;script&gt;") == 7
    assert "<p>fine</p>" in page


def test_nothing_is_loaded_and_nothing_runs():
    picture = image_html(Image.new("RGB", (2, 2)), "x")
    tags = Tags(render_page("t", [Section("h", picture)]))
    assert not {"script", "link", "iframe", "object", "form"} & set(tags.seen)
    assert all(not name.startswith("on") for name, _ in tags.attributes)
    assert [value[:22] for name, value in tags.attributes if name == "src"] == ["data:image/png;base64,"]
    assert not [name for name, _ in tags.attributes if name in ("href", "action")]


def test_pictures_travel_inside():
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 3)).astype(np.uint8)
    html = image_html(Image.fromarray(pixels), 'a "b"')
    data = base64.b64decode(re.search(r"base64,([^\"]+)", html)[1])
    with Image.open(BytesIO(data)) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)
    assert 'width="7" height="5" alt="a &quot;b&quot;"' in html

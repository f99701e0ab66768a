"""The page around fragments: self-contained HTML without script, for `default-src 'none'; img-src data:; style-src 'unsafe-inline'`."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO

from PIL import Image

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#222;background:#fff;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem;font-weight:600} h2{font-size:1.1rem;font-weight:600;margin:2rem 0 .5rem}
table{border-collapse:collapse;font-size:.9rem;margin:1rem 0} td,th{padding:.2rem 1.2rem .2rem 0;text-align:left;vertical-align:top;
font-weight:400;border-bottom:1px solid #eee} th{color:#666}
.warning{background:#fff4e0;border-left:4px solid #b84608;padding:.5rem .8rem} .verdict{background:#eef4fa;
border-left:4px solid #226cb0;padding:.5rem .8rem} caption{color:#666;text-align:left;white-space:nowrap;padding:.2rem 0}
.whole{white-space:nowrap} h3{font-size:1rem;margin:1.5rem 0 0}
img{max-width:100%;height:auto;image-rendering:pixelated} footer{color:#888;font-size:.85rem;margin-top:3rem}
"""


@dataclass(frozen=True, slots=True)
class Section:
    """One instance explained: `fragment` and `appendix` are HTML as it is, everything else plain text that is escaped here."""

    heading: str
    fragment: str
    facts: tuple[tuple[str, ...], ...] = ()
    """Name and values, one a method, in the order shown."""
    warnings: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()
    """How far to trust it, in words; shown first."""
    appendix: str = ""


def render_page(title: str, sections: Sequence[Section], footer: str = "") -> str:
    """A whole document."""
    body = "".join(_section(section) for section in sections)
    foot = f"<footer>{escape(footer)}</footer>" if footer else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{body}{foot}</body></html>"
    )


def image_html(picture: Image.Image, alt: str) -> str:
    """The picture as a PNG inside the page."""
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    data = b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" width="{picture.width}" height="{picture.height}" alt="{escape(alt)}">'


def _section(section: Section) -> str:
    warnings = "".join(f'<p class="warning">{escape(warning)}</p>' for warning in section.warnings)
    verdicts = "".join(f'<p class="verdict">{escape(verdict)}</p>' for verdict in section.verdicts)
    rows = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{escape(value)}</td>' for value in values)}</tr>" for name, *values in section.facts
    )
    table = f"<table>{rows}</table>" if rows else ""
    return f"<section><h2>{escape(section.heading)}</h2>{verdicts}{warnings}{section.fragment}{table}{section.appendix}</section>"

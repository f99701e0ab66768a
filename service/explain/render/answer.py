"""Answers of `:explain` as a picture or a page: captions, figures and warnings around what `inputs` draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from service.codecs.instance import Instance
from service.errors import NotExplainable
from service.explain.agreement import Agreement
from service.explain.answer import Explanation
from service.explain.render.agreement import draw_agreement, render_agreement
from service.explain.render.facts import caption, facts, heading, percentage
from service.explain.render.inputs import Drawing, Prediction
from service.explain.render.latent import class_share
from service.explain.render.page import Section, render_page
from service.explain.render.quality import render_quality
from service.explain.render.sheet import Picture, below, render_grid, titled
from service.manifest import Manifest

if TYPE_CHECKING:
    from service.explanations.asked import Explained


@dataclass(frozen=True, slots=True)
class _Case:
    """One instance with all that was found of it, an explanation a method."""

    instance: Instance
    prediction: Prediction
    found: tuple[Explanation, ...]
    agreement: Agreement | None

    @property
    def attributed(self) -> list[Explanation]:
        return [each for each in self.found if each.attributions is not None]

    def named(self, each: Explanation, words: str) -> str:
        """The words, with the method's name before them where there are several."""
        return f"{str(each.fields['method']).replace('_', ' ')}: {words}" if len(self.found) > 1 else words


def drawable(manifest: Manifest) -> tuple[str, ...]:
    """The media types that an explanation of this model can be answered in, JSON first; a text makes no picture."""
    only_text = all(declared.codec == "text" for declared in manifest.inputs)
    return ("application/json", "text/html") if only_text else ("application/json", "image/png", "text/html")


def draw_picture(manifest: Manifest, explained: Explained) -> bytes:
    """A PNG: the overlay at the sent size for one sent picture and one method, a figure for anything else, several instances
    in a grid.

    Raises NotExplainable where an instance's explanations hold no attributions, with the warning.
    """
    cases = list(_cases(explained))
    drawings = [_drawing(manifest, case) for case in cases]
    picture = drawings[0].overlay() if len(cases) == len(cases[0].found) == 1 else None
    picture = picture or render_grid([_figure(case, drawing) for case, drawing in zip(cases, drawings, strict=True)])
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def draw_page(manifest: Manifest, explained: Explained) -> str:
    """A self-contained page with one section an instance; an explanation without attributions shows its warning instead."""
    title = manifest.title or manifest.name
    sections = [_section(manifest, case) for case in _cases(explained)]
    return render_page(title, sections, f"{manifest.name}, version {manifest.version} · whyserve")


def _cases(explained: Explained) -> Iterator[_Case]:
    agreements: Sequence[Agreement | None] = explained.agreements or [None] * len(explained.instances)
    for row in zip(explained.instances, explained.predictions, explained.explanations, agreements, strict=True):
        yield _Case(*row)


def _drawing(manifest: Manifest, case: _Case) -> Drawing:
    if not case.attributed:
        warnings = [warning for each in case.found for warning in each.fields.get("warnings", ())]
        raise NotExplainable("; ".join(warnings) or "this explanation holds no attributions")
    return Drawing(manifest, case.instance, case.prediction, case.attributed)


def _figure(case: _Case, drawing: Drawing) -> Picture:
    body = drawing.picture()
    if case.agreement is not None:
        body = below([body, draw_agreement(case.agreement)], gap=16)
    return titled(body, caption(case.prediction, [each.fields for each in case.attributed]))


def _section(manifest: Manifest, case: _Case) -> Section:
    fields = [each.fields for each in case.found]
    fragment = _drawing(manifest, case).html() if case.attributed else ""
    return Section(
        heading(case.prediction, fields[0]),
        fragment + (render_agreement(case.agreement) if case.agreement else ""),
        (*facts(fields), *_class_shares(manifest, case)),
        (*(case.named(each, warning) for each in case.found for warning in each.fields.get("warnings", ())), *case.instance.warnings),
        tuple(case.named(each, each.fields["verdict"]) for each in case.found if each.fields.get("verdict")),
        "".join(_quality(case, each) for each in case.found if each.fields.get("quality")),
    )


def _quality(case: _Case, each: Explanation) -> str:
    return f"<h3>{escape(case.named(each, 'how far to trust it'))}</h3>{render_quality(each.fields['quality'])}"


def _class_shares(manifest: Manifest, case: _Case) -> Iterator[tuple[str, ...]]:
    """Of a generated picture: how much of what moved it was its class."""
    if manifest.outputs[0].kind != "image" or not case.attributed:
        return
    for name in (declared.name for declared in manifest.inputs if declared.labels):
        yield (f"share of {name}", *(_share(each, name) for each in case.found))


def _share(each: Explanation, name: str) -> str:
    found: dict[str, Any] = {key: np.asarray(array) for key, array in (each.attributions or {}).items()}
    return f"{percentage(class_share(found, name))} of all that moved the picture" if name in found else ""

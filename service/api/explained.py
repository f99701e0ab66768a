"""An `:explain` answered: JSON, a picture or a page of what was found, now or when it is asked for."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Any

from service.api.answers import HTML, PNG, Answer, long_json_answer, negotiate, page_answer, picture_answer
from service.codecs.explanation import encode_explanation
from service.explain.render.answer import draw_page, draw_picture, drawable
from service.explanations.asked import Explained
from service.manifest import Manifest


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """What was found and all that an answer says beside it. It doesn't hold the model, which may be unloaded meanwhile."""

    manifest: Manifest
    explained: Explained
    signature: dict[str, Any]
    """Who answered: model_name, model_version, model_sha256, id."""

    async def answer(self, accept: str) -> Answer:
        """Raises NotAcceptable, NotExplainable (nothing to draw), TooLarge (coordinates=sent of a large picture)."""
        form = negotiate(accept, drawable(self.manifest))
        if form == PNG:
            return picture_answer(await asyncio.to_thread(draw_picture, self.manifest, self.explained))
        if form == HTML:
            return page_answer(await asyncio.to_thread(draw_page, self.manifest, self.explained))
        document = {"predictions": self.explained.predictions, "explanations": encode_explained(self.manifest, self.explained)}
        if (agreements := self.explained.agreements) is not None:
            document["agreement"] = [asdict(each) for each in agreements]
        return await long_json_answer(document | self.signature)


def encode_explained(manifest: Manifest, explained: Explained) -> list[dict[str, Any]]:
    """One explanation an instance, as JSON values; of several methods one a method, instance by instance. Raises TooLarge."""
    coordinates = explained.requests[0].parameters.coordinates
    return [
        encode_explanation(manifest, instance, one.attributions, one.fields, coordinates)
        for instance, found in zip(explained.instances, explained.explanations, strict=True)
        for one in found
    ]

"""TorchServe's inference paths, for clients that move from it: `/predictions/{name}`, `/explanations/{name}`.

Bodies as V1 takes them. The answer is what TorchServe's is: the prediction or the attributions of one instance, a list for
several, without an envelope.
"""

from __future__ import annotations

from typing import Any

from starlette.routing import Route

from service.api.answers import JSON, Answer, json_answer, negotiate
from service.api.bodies import BodyLimits
from service.api.explained import encode_explained
from service.api.verbs import Call, Verb, unless_hung_up
from service.parameters import PredictParameters, check
from service.serving import Serving


class TorchServe:
    """The paths over one Serving."""

    def __init__(self, serving: Serving, limits: BodyLimits) -> None:
        self._serving = serving
        self._limits = limits

    def verbs(self) -> list[Route]:
        """Plain routes, to stand first in the app's list."""
        predict = Verb(self._serving.registry, self._serving.precedence, "predict", self._limits, self._predict)
        explain = Verb(self._serving.registry, self._serving.precedence, "explain", self._limits, self._explain)
        return [
            Route(path + version, app, methods=["POST", "PUT"], name=f"torchserve_{path[1:].partition('/')[0]}")
            for path, app in (("/predictions/{name}", predict), ("/explanations/{name}", explain))
            for version in ("", "/{version}")
        ]

    async def _predict(self, call: Call) -> Answer:
        negotiate(call.accept, (JSON,))
        parsed = await call.parse(self._limits)
        return _bare(await self._serving.predict(call.model, parsed.instances, check(PredictParameters, parsed.parameters)))

    async def _explain(self, call: Call) -> Answer:
        negotiate(call.accept, (JSON,))
        parsed = await call.parse(self._limits)
        work = self._serving.explain(call.model, parsed.instances, parsed.parameters, call.caller)
        explained = await unless_hung_up(work, call.receive)
        return _bare(encode_explained(call.model.manifest, explained))


def _bare(answers: list[dict[str, Any]]) -> Answer:
    return json_answer(answers[0] if len(answers) == 1 else answers)

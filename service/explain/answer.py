"""An explanation as a value, and as the V2 response that carries it between processes.

Tensors travel as tensors; everything else of the explanations in one response parameter, a JSON text with one object an
instance, as API.md's V2 section says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from service.codecs.v2 import InferResponse, Tensor

Array = NDArray[Any]
SCALARS = ("instance_output", "baseline_output", "convergence_delta", "completeness_error", "parity_error")
INDICES = ("predicted_index", "target_index")


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """One instance's. `attributions` by input, each without batch axis, float32; None where there is none to trust.

    `fields` are the others of API.md's explanation, `predicted_index` and `target_index` beside them (None: no single one).
    """

    attributions: Mapping[str, Array] | None
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class ExplainAnswer:
    explanations: tuple[Explanation, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Those that have attributions; not every method reaches every input."""
        return next((tuple(e.attributions) for e in self.explanations if e.attributions is not None), ())

    def tensors(self, shapes: Mapping[str, tuple[int, ...]], *, numbers: bool = True) -> tuple[Tensor, ...]:
        """As V2 output tensors, NaN (of an index: -1) for what is null; `shapes` of a row, by input attributed to. Without `numbers`
        only the attributions."""
        tensors = []
        for name, shape in shapes.items():
            missing = np.full(shape, np.nan, np.float32)
            rows = [missing if e.attributions is None else e.attributions[name] for e in self.explanations]
            tensors.append(Tensor("attributions" if len(shapes) == 1 else f"attributions.{name}", np.stack(rows)))
        if numbers:
            tensors += [Tensor(name, self._column(name, -1, np.int64)) for name in INDICES]
            tensors += [Tensor(name, self._column(name, np.nan, np.float32)) for name in SCALARS]
        return tuple(tensors)

    def _column(self, name: str, missing: float, dtype: type) -> Array:
        return np.asarray([missing if (value := e.fields[name]) is None else value for e in self.explanations], dtype)


def encode(
    answer: ExplainAnswer,
    shapes: Mapping[str, tuple[int, ...]],
    model: str,
    version: str,
    request_id: str = "",
    *,
    numbers: bool = True,
) -> InferResponse:
    """`shapes` and `numbers` as ExplainAnswer.tensors has them; the parameter `explanations` has all numbers in any case."""
    others = [{"inputs": list(shapes), "explained_inputs": e.attributions is not None} | dict(e.fields) for e in answer.explanations]
    parameters: dict[str, Any] = {"explanations": orjson.dumps(others).decode()}
    return InferResponse(model, answer.tensors(shapes, numbers=numbers), version, request_id, parameters)


def decode(response: InferResponse) -> ExplainAnswer:
    """The answer that `encode` put into a response."""
    arrays = {tensor.name: tensor.array for tensor in response.outputs}
    return ExplainAnswer(
        tuple(_decoded(arrays, i, others) for i, others in enumerate(orjson.loads(str(response.parameters["explanations"]))))
    )


def _decoded(arrays: Mapping[str, Array], row: int, others: dict[str, Any]) -> Explanation:
    inputs: Sequence[str] = others.pop("inputs")
    if not others.pop("explained_inputs"):
        return Explanation(None, others)
    names = {inputs[0]: "attributions"} if len(inputs) == 1 else {name: f"attributions.{name}" for name in inputs}
    return Explanation({name: arrays[tensor][row] for name, tensor in names.items()}, others)

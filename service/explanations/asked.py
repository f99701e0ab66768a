"""An `:explain` on its way: what is asked for once it was decoded, and what was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from service.codecs.instance import Instance
from service.explain.agreement import Agreement, agreement
from service.explain.answer import Explanation
from service.explain.methods import ExplainRequest
from service.repository.loaded import LoadedModel

_TOKEN_BYTES = 200
_FIELDS_BYTES = 4096
"""Of an explanation beside its attributions."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """An `:explain` that was checked and decoded: what is left to do is to compute."""

    model: LoadedModel
    requests: tuple[ExplainRequest, ...]
    """One a method."""
    instances: list[Instance]

    @property
    def timeout(self) -> float:
        """Seconds that it may take."""
        return max(request.timeout for request in self.requests)

    @property
    def size(self) -> int:
        """About how many bytes it and its answer hold."""
        methods = len(self.requests)
        tensors = [tensor for instance in self.instances for tensor in instance.tensors.values()]
        encoded = sum(len(sent) for instance in self.instances for sent in instance.encoded.values())
        tokens = sum(len(text.tokens) for instance in self.instances for text in instance.texts.values())
        numbers = sum(tensor.nbytes + 4 * methods * tensor.size for tensor in tensors)  # attributions are float32
        return numbers + encoded + _TOKEN_BYTES * tokens + _FIELDS_BYTES * methods * len(self.instances)


@dataclass(frozen=True, slots=True, eq=False)
class Explained:
    """What `:explain` found, one entry an instance in each list."""

    requests: tuple[ExplainRequest, ...]
    """One a method."""
    instances: list[Instance]
    predictions: list[dict[str, Any]]
    explanations: list[tuple[Explanation, ...]]
    """One a method in each."""

    @property
    def agreements(self) -> list[Agreement] | None:
        """How far the methods agree, an instance each; None where there is one method only."""
        return [agreement(each) for each in self.explanations] if len(self.requests) > 1 else None

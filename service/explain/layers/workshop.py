"""Carries out the layer operations in the explainer process; what was found out about a model's layers is kept while it is used."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from service.errors import NotExplainable, NotFound
from service.explain.cancel import Token
from service.explain.layers import activations, attribution, filters, visualise
from service.explain.layers.catalog import catalog
from service.explain.layers.layer import Catalog, Layer
from service.explain.layers.methods import METHODS
from service.explain.layers.parameters import ActivationParameters, FilterParameters, LayerAttributionParameters, VisualiseParameters, check
from service.explain.layers.studied import REFERENCE, Operation, Studied
from service.explain.methods.request import ExplainRequest, with_companions
from service.explain.served import Served
from service.explain.subject import Subject

Arrays = Mapping[str, NDArray[Any]]
MOST_CATALOGS = 16


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    subject: Subject
    catalog: Catalog


class Workshop:
    """Not for several threads at once."""

    def __init__(self) -> None:
        self._known: OrderedDict[Path, _Known] = OrderedDict()

    def run(
        self, operation: Operation, subject: Subject, file: Path, tensors: Arrays, parameters: Mapping[str, Any], token: Token, memory: int
    ) -> Studied:
        """What `operation` finds for rows `tensors` (n, ..) by graph input; `file` is the subject's `model.onnx`.

        Raises BadParameter, UnknownChoice (layer, unit), NotExplainable, TooLarge, DeadlineExceeded, Cancelled.
        """
        layers = self._catalog(subject, file)
        token.check()
        match operation:
            case "layers":
                return Studied({"reason": layers.reason, "layers": [layer.model_dump() for layer in layers.layers]})
            case "filters":
                wanted_filters = check(FilterParameters, parameters)
                return filters.filters(subject, _chosen(layers, wanted_filters.layer) or filters.default(subject, layers), wanted_filters)
            case "activations":
                wanted = check(ActivationParameters, parameters)
                layer = _chosen(layers, wanted.layer) or activations.default(layers)
                if layer.shape is None:
                    raise NotExplainable(f"layer {layer.name!r} ({layer.operator}) gives no tensor to look at: {layer.note}")
                return activations.activations(subject, _showing(file, layer), layer, tensors, wanted, token)
            case "explain-layer":
                return self._attribute(subject, file, layers, tensors, check(LayerAttributionParameters, parameters), token, memory)
            case "visualise":
                return self._visualise(subject, file, layers, tensors, check(VisualiseParameters, parameters), token)

    def _attribute(
        self,
        subject: Subject,
        file: Path,
        layers: Catalog,
        tensors: Arrays,
        wanted: LayerAttributionParameters,
        token: Token,
        memory: int,
    ) -> Studied:
        layer = _chosen(layers, wanted.layer) or attribution.default(layers)
        request = ExplainRequest(METHODS[wanted.method], wanted, wanted.timeout or token.remaining)
        request, rows = with_companions(request, tensors, {info.name for info in subject.served.inputs})
        return attribution.attribute(subject, layer, _showing(file, layer), rows, request, token, memory)

    def _visualise(
        self, subject: Subject, file: Path, layers: Catalog, tensors: Arrays, wanted: VisualiseParameters, token: Token
    ) -> Studied:
        layer = _chosen(layers, wanted.layer) or visualise.default(subject, layers)
        served = _showing(file, layer)
        if served is None:
            raise NotExplainable(f"layer {layer.name!r} stands in a function of the model's own: the served model doesn't show its tensor")
        feeds = {name: np.ascontiguousarray(array[:1]) for name, array in tensors.items() if not name.startswith(REFERENCE)}
        return visualise.visualise(subject, layer, served, feeds, references(tensors), wanted, token)

    def _catalog(self, subject: Subject, file: Path) -> Catalog:
        known = self._known.get(file)
        if known is None or known.subject is not subject:
            known = _Known(subject, catalog(subject, onnx.load(file)))
        self._known[file] = known
        self._known.move_to_end(file)
        while len(self._known) > MOST_CATALOGS:
            self._known.popitem(last=False)
        return known.catalog


def references(tensors: Arrays) -> list[dict[str, NDArray[Any]]]:
    """The real instances among the tensors, (1, ..) by graph input each."""
    found: dict[int, dict[str, NDArray[Any]]] = {}
    for name, array in tensors.items():
        if name.startswith(REFERENCE):
            number, _, of = name.removeprefix(REFERENCE).partition(".")
            found.setdefault(int(number), {})[of] = array
    return [found[number] for number in sorted(found)]


def _chosen(layers: Catalog, name: str | None) -> Layer | None:
    return None if name is None else layers.named(name)


def _showing(file: Path, layer: Layer) -> Served | None:
    """The served model with the layer's tensor beside its outputs; None where the file's graph doesn't have that tensor."""
    if not file.is_file():
        raise NotFound("the model's file is gone")
    model = onnx.load(file)
    made = {name for node in model.graph.node for name in node.output}
    return Served(model, (), (), (layer.output,)) if layer.output in made else None

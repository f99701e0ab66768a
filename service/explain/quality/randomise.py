"""Sanity check by randomising weights (Adebayo et al. 2018, https://arxiv.org/abs/1810.03292): an explanation of the model must
change when the model does.

From the output backwards, layer by layer, weights are shuffled: each layer keeps the distribution of its weights, whatever their
type, and loses what it has learnt. The same instances are explained, for the same target; where the new attributions still
resemble the old ones, they show the input's structure and not what the model does with it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper

from service.errors import WhyserveError
from service.explain.agreement import agreement
from service.explain.answer import Explanation
from service.explain.attribution import attribute
from service.explain.cancel import TimeUp, Token
from service.explain.case import Case
from service.explain.loading import load
from service.explain.methods import resolve
from service.explain.subject import Subject
from service.manifest import MODEL_FILE, Manifest
from service.repository.bundle import Bundle, Location

Array = NDArray[Any]
Arrays = Mapping[str, Array]
WEIGHTED = frozenset(
    {"Conv", "ConvTranspose", "FusedConv", "QLinearConv", "ConvInteger", "Gemm", "FusedGemm", "QGemm", "MatMul", "FusedMatMul"}
    | {"QLinearMatMul", "MatMulInteger", "LSTM", "GRU", "RNN", "Attention", "MultiHeadAttention"}
)
_PASSING = frozenset({"Transpose", "Identity", "Cast", "Reshape", "DequantizeLinear", "Squeeze", "Unsqueeze"})
"""Operators through which a layer's weights may come."""
RESEMBLES = 0.5
"""Mean rank correlation from which on an explanation has survived what the model has not."""
INDIFFERENT = 0.9
"""The same, where the last layer alone was shuffled: that changes which features speak for the target, so attributions should
change too."""
FEW = 8
"""Elements: fewer resemble each other by chance."""
SHUFFLES = (1, 2)
"""Seeds: all layers are shuffled twice, since two random models may happen to agree."""


@dataclass(frozen=True, slots=True)
class Survival:
    """How much a method's attributions resemble those before, where only the last layer was shuffled, and where all were:
    Spearman's rank correlation over the elements that differ from the baseline, mean over instances. None where no instance
    could be compared."""

    method: str
    last_layer: float | None
    all_layers: float | None

    @property
    def survives(self) -> bool:
        """Whether it shows the input rather than the model."""
        return self.all_layers is not None and self.all_layers >= RESEMBLES

    @property
    def indifferent(self) -> bool:
        """Whether it hardly depends on the last layer, which decides between the targets."""
        return self.last_layer is not None and self.last_layer >= INDIFFERENT


def layers(model: ModelProto, starts: Sequence[str]) -> list[tuple[str, ...]]:
    """The weights (names of initializers) of each layer behind the tensors `starts`, from the output backwards."""
    makers = {name: node for node in model.graph.node for name in node.output}
    constants = {t.name for t in model.graph.initializer if len(t.dims) >= 2}
    reached, found = set(starts), []
    for node in model.graph.node:
        if not reached & set(node.input):
            continue
        reached |= set(node.output)
        if node.op_type in WEIGHTED:
            weights = tuple(w for name in node.input if name not in reached and (w := _origin(name, makers)) in constants)
            if weights:
                found.append(weights)
    return found[::-1]


def _origin(name: str, makers: Mapping[str, onnx.NodeProto]) -> str:
    while name in makers and makers[name].op_type in _PASSING:
        name = makers[name].input[0]
    return name


def shuffled(model: ModelProto, weights: Sequence[str], seed: int) -> ModelProto:
    """A copy of the model with the entries of these initializers shuffled."""
    changed = ModelProto()
    changed.CopyFrom(model)
    rng = np.random.default_rng(seed)
    for tensor in changed.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(_shuffled(tensor, rng))
    return changed


def _shuffled(tensor: TensorProto, rng: np.random.Generator) -> TensorProto:
    array = numpy_helper.to_array(tensor)
    other = numpy_helper.from_array(rng.permutation(array.reshape(-1)).reshape(array.shape), tensor.name)
    other.data_type = tensor.data_type
    return other


def survivals(
    bundle: Bundle, subject: Subject, instances: Sequence[Arrays], methods: Sequence[str], token: Token, memory: int
) -> Iterator[Survival]:
    """For each of these methods, on instances (1, ..) by input. Nothing where the model has no layers with weights."""
    model = onnx.load(bundle.model_file)
    cascade = layers(model, list(subject.at.values()))
    if not cascade:
        return
    every = [name for weights in cascade for name in weights]
    last = [_subject(bundle, subject.manifest, shuffled(model, cascade[0], SHUFFLES[0]))]
    whole = [_subject(bundle, subject.manifest, shuffled(model, every, seed)) for seed in SHUFFLES]
    for method in methods:
        yield Survival(method, *(_resemblance(subject, others, method, instances, token, memory) for others in (last, whole)))


def _subject(bundle: Bundle, manifest: Manifest, model: ModelProto) -> Subject:
    with tempfile.TemporaryDirectory() as folder:
        location = Location(bundle.location.name, bundle.location.version, Path(folder))
        for file in bundle.location.folder.iterdir():
            if file.is_file() and file.name != MODEL_FILE:
                (location.folder / file.name).symlink_to(file.resolve())
        onnx.save(model, location.folder / MODEL_FILE)
        return load(Bundle(location, bundle.model_sha256, manifest, None))


def _resemblance(
    subject: Subject, others: Sequence[Subject], method: str, instances: Sequence[Arrays], token: Token, memory: int
) -> float | None:
    found = [_correlation(subject, other, method, feeds, token, memory) for other in others for feeds in instances]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else None


def _correlation(subject: Subject, other: Subject, method: str, feeds: Arrays, token: Token, memory: int) -> float | None:
    """None where either model can't be explained so, where there is little to compare, or where attributions are all alike."""
    try:
        one = _explained(subject, method, feeds, None, token, memory)
        target = one.fields["target"]
        two = _explained(other, method, feeds, target, token, memory)
    except (WhyserveError, TimeUp):
        return None
    if sum(array.size for array in (one.attributions or {}).values()) < FEW:
        return None
    return agreement((one, two)).spearman[0][1]


def _explained(subject: Subject, method: str, feeds: Arrays, target: Any, token: Token, memory: int) -> Explanation:
    """Attributions of the elements that differ from the baseline: the others are zero whatever the model does."""
    request = resolve(subject.manifest, {"method": method})
    case = Case(subject, request, feeds, target, token, memory)
    attributions = dict(attribute(case).attributions)
    for name, x, b in zip(subject.at, case.point, case.baseline.point, strict=True):
        if name in attributions:
            differs = (x != b).numpy()[0].reshape(*attributions[name].shape, -1).any(-1)
            attributions[name] = attributions[name][differs]
    index = case.scalar.target.described.get("index")
    return Explanation(attributions, {"method": method, "signed": not request.unsigned, "target": index})

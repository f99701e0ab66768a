"""The twin: a torch module built from a served ONNX graph, so that whatever is served can be explained by its gradients."""

from service.explain.twin.fold import fold
from service.explain.twin.mixed import mixed
from service.explain.twin.module import Cut, Twin, UnsupportedOperators, build
from service.explain.twin.order import BadGraph

__all__ = ["BadGraph", "Cut", "Twin", "UnsupportedOperators", "build", "fold", "mixed"]
